"""Segments images with TensorFlow Serving over gRPC.

    python -m pip install -e ".[serving]"  # in the clone
    python examples/serving/client_grpc.py street.jpg --model pspnet

Writes street.jpg.classes.png, like client_rest.py.
"""

import grpc
from client_rest import ServerError, checked_maps, command
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

STRING = 7  # DT_STRING of tensorflow/core/framework/types.proto
MAX_BYTES = 64 * 2**20  # of a message; gRPC's default is 4 MiB


def class_maps(contents, *, address, model, timeout):
    """Returns the class maps of encoded images, like client_rest.py."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = "serve_bytes"
    tensor = request.inputs["image_bytes"]
    tensor.dtype = STRING
    tensor.tensor_shape.dim.add(size=len(contents))
    tensor.string_val.extend(contents)
    options = [
        ("grpc.max_receive_message_length", MAX_BYTES),
        ("grpc.max_send_message_length", MAX_BYTES),
    ]
    with grpc.insecure_channel(address, options) as channel:
        service = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        try:
            answer = service.Predict(request, timeout=timeout)
        except grpc.RpcError as error:
            reason = f"{error.code().name}, {error.details()}"
            raise ServerError(f"{address}: {reason}") from None
    return checked_maps(list(answer.outputs["classes_png_bytes"].string_val), contents, address)


def main():
    return command(class_maps, __doc__.splitlines()[0], "address", "localhost:8500")


if __name__ == "__main__":
    raise SystemExit(main())
