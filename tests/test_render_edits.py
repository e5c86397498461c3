"""Edits and appearances from the command line and when a scene opens: pictures, files, refusals."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from landmark_viewer.core.appearance import Appearance, Grade
from landmark_viewer.core.edits.compile import EditCompiler
from landmark_viewer.core.edits.layers import Hide, Prism, Restyle
from landmark_viewer.core.edits.region import Region
from landmark_viewer.core.kernels import EDITED
from landmark_viewer.core.render import Renderer, RenderSettings
from landmark_viewer.scenes.load import Scene, open_scene
from landmark_viewer.viewer import cli, opening
from landmark_viewer.viewer.document import Document, Work
from landmark_viewer.viewer.opening import load
from landmark_viewer.viewer.state import ViewerState

from .synthetic import write

HALF = Region.rectangle(-9, -9, 0, 9)
LAYER = "{kind: hide, name: West, region: [[-9, -9], [0, -9], [0, 9], [-9, 9]]}"
STYLES = "styles: {a: 1, b: 3, warm: {code: 3, temperature: 0.5}, own: {latent: LATENT}}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Returns a scene whose western half is hidden."""
    folder = tmp_path / "city"
    write(folder, embedding=5).rename(folder / "city.th")
    table = open_scene(folder / "city.th").model.embedding
    latent = [round(v, 3) for v in table[2].tolist()]
    styles = STYLES.replace("LATENT", str(latent))
    (folder / "scene.yaml").write_text(
        f"version: 1\nmodel: {{checkpoint: city.th}}\nappearance: {{{styles}}}\nedits: [{LAYER}]\n"
    )
    return folder / "scene.yaml"


def picture(path: Path, *options: object) -> np.ndarray:
    """Renders on the command line."""
    out = path.parent / "out.npz"
    assert cli.main(["render", str(path), "-o", str(out), "--size", "16x12", *map(str, options)]) == 0
    with np.load(out) as data:
        return data["rgb"]


def metadata(path: Path, *options: object) -> dict:
    picture(path, *options)
    with np.load(path.parent / "out.npz") as data:
        return json.loads(str(data["meta"]))


def expected(scene: Scene, appearance: Appearance, *layers) -> np.ndarray:
    renderer = Renderer(scene.model)
    edits = EditCompiler(renderer).compile(layers)
    settings = RenderSettings(appearance=appearance, background=scene.background, edits=edits)
    return renderer.render(scene.home_camera(16, 12), settings).rgb


def refusal(path: Path, capsys, *options: str) -> str:
    assert cli.main(["render", str(path), "-o", str(path.parent / "out.npz"), "--size", "4x3", *options]) == 1
    assert not (path.parent / "out.npz").exists()
    return capsys.readouterr().err.splitlines()[-1].removeprefix("error: ")


def test_edits_are_shown_unless_they_are_switched_off(path):
    scene = open_scene(path)
    edited, unedited = picture(path), picture(path, "--edits", "off")
    assert np.array_equal(unedited, expected(scene, Appearance()))
    assert np.array_equal(edited, expected(scene, Appearance(), Hide(prism=Prism(HALF))))
    assert np.array_equal(edited, picture(path, "--edits", "on"))
    assert not np.array_equal(edited, unedited)
    disabled = path.with_name("disabled.yaml")
    disabled.write_text(path.read_text().replace("kind: hide", "kind: hide, enabled: false"))
    assert np.array_equal(picture(disabled), unedited)


def test_all_weight_on_one_style_or_row_is_exactly_that_one(path):
    scene, off = open_scene(path), ("--edits", "off")
    styles = dict(scene.spec.appearance.styles)
    for mix, appearance in {
        "a:1,b:0": styles["a"],
        "a:0,b:0.25": styles["b"],
        "warm:2": styles["warm"],
        "own:1, a:0": styles["own"],
        "0:0,4:1": Appearance.of(4),
    }.items():
        assert np.array_equal(picture(path, "--mix", mix, *off), expected(scene, appearance)), mix
        assert metadata(path, "--mix", mix)["appearance"] == json.loads(json.dumps(asdict(appearance)))


@pytest.mark.parametrize("mix", ["a:0.3,b:0.7", "a:3,b:7", "1:0.3,3:0.7", " a : 0.3 , 3 : 0.7 "])
def test_a_mix_is_weighted_and_scaled(path, mix):
    shown = picture(path, "--mix", mix, "--edits", "off")
    assert np.allclose(shown, expected(open_scene(path), Appearance(((1, 0.3), (3, 0.7)))), atol=1e-6)


def test_a_mix_may_hold_embeddings_and_grades(path):
    scene = open_scene(path)
    table = scene.model.embedding
    own = np.array(dict(scene.spec.appearance.styles)["own"].latent)
    latent = 0.25 * own + 0.25 * table[1].numpy() + 0.5 * table[3].numpy()
    grade = Grade(temperature=0.25)
    shown = picture(path, "--mix", "own:1,a:1,warm:2", "--edits", "off")
    assert np.allclose(shown, expected(scene, Appearance(latent=tuple(latent), grade=grade)), atol=1e-5)


def test_the_scene_may_start_with_a_mix_and_a_grade(path):
    shown = picture(path, "--set", "appearance={mix: {0: 1, 3: 1}, exposure: -1}", "--edits", "off")
    appearance = Appearance(((0, 0.5), (3, 0.5)), grade=Grade(exposure=-1.0))
    assert np.array_equal(shown, expected(open_scene(path), appearance))


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        ("a", "--mix must be names or rows with weights such as day:0.3,dusk:0.7, got a"),
        ("a:x", "--mix must be names or rows with weights such as day:0.3,dusk:0.7, got a:x"),
        ("a:-1", "--mix must be names or rows with weights such as day:0.3,dusk:0.7, got a:-1"),
        ("a:inf", "--mix must be names or rows with weights such as day:0.3,dusk:0.7, got a:inf"),
        ("a:nan", "--mix must be names or rows with weights such as day:0.3,dusk:0.7, got a:nan"),
        (":1", "--mix must be names or rows with weights such as day:0.3,dusk:0.7, got :1"),
        ("a:0,b:0", "--mix must have a weight above 0, got a:0,b:0"),
        ("noon:1", "--mix must name a, b, warm, own or rows, got 'noon'"),
        ("a:1,5:1", "--mix must be from 0 to 4 (the table has 5 rows), got 5"),
    ],
)
def test_a_mix_that_cannot_be_is_refused_in_a_sentence(path, capsys, mix, message):
    assert refusal(path, capsys, "--mix", mix) == message


def test_a_mix_excludes_code_and_style(path, capsys):
    for other in ("--code=1", "--style=a"):
        arguments = ["render", str(path), "-o", "x.png", "--mix", "a:1", other]
        assert cli.main(arguments) == 2
        assert "not allowed with argument" in capsys.readouterr().err


def test_a_written_picture_says_what_was_edited(path):
    unedited = metadata(path, "--edits", "off")["edits"]
    edited = metadata(path)["edits"]
    assert unedited["layers"] == []
    assert edited["layers"] == [{"kind": "hide", "name": "West", "files": []}]
    assert edited["sha256"] == metadata(path)["edits"]["sha256"] != unedited["sha256"]
    moved = path.with_name("moved.yaml")
    moved.write_text(path.read_text().replace("[0, 9]", "[0.1, 9]"))
    assert metadata(moved)["edits"]["layers"] == edited["layers"]
    assert metadata(moved)["edits"]["sha256"] != edited["sha256"]


def test_a_layer_that_cannot_be_applied_ends_a_render_with_a_sentence(path, capsys):
    path.write_text(path.read_text().replace(LAYER, "{kind: replace-block, block: 0, checkpoint: none.th}"))
    assert refusal(path, capsys).startswith("replace-block: ")


# When a scene opens


def test_a_scene_opens_with_its_edits_compiled(path):
    loaded = load(path)
    assert loaded.facts.edits == open_scene(path).edits
    assert loaded.compiled.layers == loaded.facts.edits
    assert loaded.facts.styles == loaded.scene.spec.appearance.styles
    assert loaded.facts.notices == loaded.scene.notices
    assert not loaded.facts.has_photos


def test_kernels_for_edits_are_compiled_first_where_a_scene_has_some(path, monkeypatch):
    asked = []
    monkeypatch.setattr(opening, "compile_next", asked.append)
    load(path)
    assert asked == [EDITED]
    path.write_text(path.read_text().replace("{kind: hide,", "{kind: hide, enabled: false,"))
    load(path)
    assert asked == [EDITED]


def test_a_layer_that_cannot_be_applied_is_switched_off_and_said(path):
    broken = "{kind: replace-block, name: Block, block: 0, checkpoint: none.th}"
    path.write_text(path.read_text().replace(LAYER, f"{LAYER}, {broken}, {LAYER.replace('West', 'Again')}"))
    loaded = load(path)
    assert [layer.enabled for layer in loaded.facts.edits] == [True, False, True]
    assert [layer.name for layer in loaded.compiled.layers] == ["West", "Again"]
    (notice,) = [text for text in loaded.facts.notices if "switched off" in text]
    assert notice.startswith("Block: ")
    facts = loaded.facts
    state = ViewerState(appearance=facts.appearance, styles=facts.styles, edits=facts.edits)
    assert not Document.of(loaded.scene).is_dirty(state)  # the user has changed nothing


def test_a_saved_scene_shows_the_same_picture(path):
    layers = (
        Hide(4, prism=Prism(HALF)),
        Restyle(2, prism=Prism(HALF.grown(1.0)), appearance=Appearance.of(4)),
    )
    state = ViewerState(appearance=Appearance.mixed({1: 1 / 3, 2: 1 / 7}), edits=layers)
    state = replace(state, appearance=replace(state.appearance, grade=Grade(tint=0.1)))
    shown = expected(open_scene(path), state.appearance, *layers)
    Document.of(open_scene(path)).save(state, path)
    assert np.array_equal(picture(path), shown)
    scene = open_scene(path)
    assert Work.in_file(scene.spec, path).is_same(Work.of(state))
