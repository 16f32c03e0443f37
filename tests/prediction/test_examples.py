from keras_psp.prediction.examples import _names


def test_files_with_the_same_name_are_named_by_their_folders():
    assert _names(["a/x.png", "a/y.png"]) == ["x", "y"]
    assert _names(["r/a/x.png", "r/b/x.png"]) == ["a/x", "b/x"]
    assert _names(["img/1.jpg", "img/1.png", "img/2.png"]) == ["1.jpg", "1.png", "2"]
