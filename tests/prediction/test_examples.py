from keras_psp.prediction.examples import _names


def test_files_with_the_same_name_are_named_by_their_folders():
    assert _names(["a/x.png", "a/y.png"]) == ["x", "y"]
    assert _names(["r/a/x.png", "r/b/x.png"]) == ["a/x", "b/x"]
    same_stem = ["1.jpg", "1.png", "1.jpg.png"]
    assert _names([f"img/{name}" for name in same_stem]) == same_stem
