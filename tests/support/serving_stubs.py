"""Stubs of TensorFlow Serving around an opened SavedModel, for the clients' tests.

They follow the documented protocol (tensorflow_serving/g3doc/api_rest.md) and the messages of
tensorflow-serving-api, for requests of encoded images only. They are not the server.
"""

import base64
import concurrent.futures
import contextlib
import http.server
import json
import threading


def _predict(folder):
    """A function from (signature, list of bytes) to (output's name, list of bytes)."""
    import tensorflow as tf

    module = tf.saved_model.load(str(folder))

    def predict(signature, contents):
        images = tf.constant(contents, "string", shape=(len(contents),))
        ((name, pngs),) = module.signatures[signature](image_bytes=images).items()
        return name, list(pngs.numpy())

    return predict


@contextlib.contextmanager
def rest_stub(folder, model):
    """Yields the address of a server with one model."""
    import tensorflow as tf

    predict = _predict(folder)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path != f"/v1/models/{model}:predict":
                return self.reply(404, {"error": f"Servable not found for request: {self.path}"})
            try:
                request = json.loads(body)
                contents = [base64.b64decode(row["b64"]) for row in request["instances"]]
                name, pngs = predict(request["signature_name"], contents)
            except tf.errors.InvalidArgumentError as error:
                return self.reply(400, {"error": error.message})
            # By the documentation, names with this ending are binary.
            assert name.endswith("_bytes")
            rows = [{"b64": base64.b64encode(content).decode()} for content in pngs]
            return self.reply(200, {"predictions": rows})

        def reply(self, status, answer):
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextlib.contextmanager
def grpc_stub(folder, model):
    """Yields the address of a server with one model."""
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    predict = _predict(folder)

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            if request.model_spec.name != model:
                context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found for request")
            contents = list(tf.make_ndarray(request.inputs["image_bytes"]))
            try:
                name, pngs = predict(request.model_spec.signature_name, contents)
            except tf.errors.InvalidArgumentError as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)
            answer = predict_pb2.PredictResponse()
            answer.outputs[name].CopyFrom(tf.make_tensor_proto(pngs, "string"))
            return answer

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()
