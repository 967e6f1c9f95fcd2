"""What is known of a process that is gone: whether it computed for a challenger when it died."""

import threading

from deploy.answering.black_box import BlackBox, box_folder, deaths, forget


def test_who_dies_computing_is_found_until_it_was_told(tmp_path, die_computing):
    die_computing(tmp_path, rollout=7)
    (death,) = deaths(tmp_path)
    assert (death.rollout, deaths(tmp_path)) == (7, [death])
    forget(tmp_path, death)
    forget(tmp_path, death)
    assert (deaths(tmp_path), list(tmp_path.iterdir())) == ([], [])


def test_who_dies_otherwise_leaves_nothing(tmp_path, die_computing):
    die_computing(tmp_path, rollout=None)
    assert len(list(tmp_path.iterdir())) == 1
    assert (deaths(tmp_path), list(tmp_path.iterdir())) == ([], [])


def test_who_lives_is_left_alone(tmp_path):
    box = BlackBox(tmp_path / "digits")
    with box.computing(3):
        assert deaths(tmp_path / "digits") == []
    assert len(list((tmp_path / "digits").iterdir())) == 1


def test_several_threads_count_together(tmp_path):
    box = BlackBox(tmp_path / "digits")

    def compute():
        for _ in range(500):
            with box.computing(4):
                pass

    threads = [threading.Thread(target=compute) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (path,) = (tmp_path / "digits").iterdir()
    assert path.read_bytes() == (4).to_bytes(8, "little") + bytes(8)


def test_no_boxes_are_no_deaths(tmp_path):
    assert deaths(tmp_path / "nobody was here") == []


def test_each_endpoint_has_a_folder_of_its_own():
    assert len({box_folder("/a", "x"), box_folder("/b", "x"), box_folder("/a", "y")}) == 3
