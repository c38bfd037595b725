import pytest

from pytest_tandem import Failed, run_case


def test_a_real_caller_reaches_the_menu(tandem, app):
    number = tandem.number(app.url + "/voice")
    call = tandem.call(number, [{"expect": "speech"}, {"press": 2}, {"expect": "hangup within 10 seconds"}])
    assert call.passed, call
    assert app.received[-1][1]["Digits"] == "2"


def test_a_wrong_setting_of_a_number_says_what_is_right(tandem, app):
    with pytest.raises(ValueError, match="unknown key"):
        tandem.number(app.url + "/voice", voice_uri="http://127.0.0.1/")
    assert tandem.number(app.url + "/voice")


def test_a_failed_case_has_the_transcript(tmp_path, app):
    path = tmp_path / "wrong.toml"
    path.write_text('voice_url = "/voice"\n[[tests]]\nname = "wrong"\nsteps = [{ expect = "words:support" }]\n')
    with pytest.raises(Failed, match="expected the words \"support\"(.|\n)*hears \"For sales, press one.\""):
        run_case(path, "wrong", app.url)
