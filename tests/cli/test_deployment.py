"""The road to a device: tiles as files and back, and a bundle that needs no unet; ONNX Runtime plays the device.

The runs are not trained: what a network has learned does not matter here, and theirs have scores as unlike as others'.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import mindspore
import nibabel as nib
import numpy as np
import onnxruntime
import pytest
import tifffile
from processes import ENVIRONMENT, SAMPLE, Unet, contents
from typer.testing import CliRunner

from unetcli import __version__
from unetcli.cli import app
from unetcli.config import load_config
from unetcli.engine import Engine, Runtime
from unetcli.runs import ClassFacts, RunFacts, create_run

SCAN = SAMPLE.parent / "volume.nii.gz"
COMMON = {"model.in_channels": 1, "model.base_channels": 4, "model.depth": 3, "inference.overlap": 0.25}
FLAT = {"model.num_classes": 2, "data.patch_size": (64, 64), "data.lower": 0.0, "data.upper": 255.0}
SOLID = {
    "model.ndim": 3,
    "model.num_classes": 4,
    "data.patch_size": (16, 32, 32),
    "data.normalization": "percentile",
    "inference.tta": True,
    "inference.batch_size": 3,
}
SIDES = {"mirror_pairs": (0, 2, 1, 3), "spacing": (10.0, 8.0, 8.0), "is_resampled": True}


@dataclasses.dataclass(frozen=True)
class Shop:
    """A folder with a run, and images for it."""

    folder: Path
    run: Path
    images: tuple[Path, ...]

    def masks(self, place: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.folder / place).iterdir()}


def make_run(folder: Path, values: tuple[int, ...], settings: dict, **more) -> Path:
    """A run with a network as it begins, but with biases and normalisations that make scores differ."""
    config = load_config(options=COMMON | settings)
    classes = tuple(ClassFacts(index=i, name=f"class{i}", value=value) for i, value in enumerate(values))
    facts = RunFacts(
        unet_version=__version__,
        dataset="none",
        kind="none",
        dataset_path=folder / "none",
        fingerprint="none",
        classes=classes,
        channels=("grey",),
        train=(),
        validation=(),
        **more,
    )
    run = create_run(folder, config, facts)
    engine = Engine.start(config, Runtime("CPU"))
    rng = np.random.default_rng(7)
    for parameter in engine._network.get_parameters():
        if parameter.ndim == 1:
            parameter.set_data(mindspore.Tensor(rng.uniform(0.5, 1.5, parameter.shape).astype(np.float32)))
    engine.save(folder / "best.ckpt", weights_only=True)
    kept = run.kept_onnx(folder / "best.ckpt")
    kept.parent.mkdir()
    engine.export(kept, "ONNX", [None, 1, *[None] * config.model.ndim])
    return folder


@pytest.fixture(scope="module")
def flat(tmp_path_factory) -> Shop:
    folder = tmp_path_factory.mktemp("flat")
    pages = tifffile.imread(SAMPLE / "test-volume.tif")
    resolution = {"resolution": (254000, 127000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(folder / "stack.tif", pages[:2, :71, :133], photometric="minisblack", **resolution)
    cv2.imwrite(str(folder / "small.png"), pages[0, :41, :30])
    cv2.imwrite(str(folder / "photograph.jpg"), pages[0, :41, :30])
    run = make_run(folder / "run", (0, 255), FLAT)
    shutil.copytree(run, folder / "other")
    return Shop(folder, run, (folder / "stack.tif", folder / "small.png", folder / "photograph.jpg"))


@pytest.fixture(scope="module")
def solid(tmp_path_factory) -> Shop:
    folder = tmp_path_factory.mktemp("solid")
    run = make_run(folder / "run", (0, 3, 4, 5), SOLID, **SIDES)
    return Shop(folder, run, (Path(shutil.copy(SCAN, folder)),))


@pytest.fixture(params=["flat", "solid"], scope="module")
def shop(request) -> Shop:
    return request.getfixturevalue(request.param)


def call(*arguments: object, code: int = 0) -> str:
    """What a call in this process says to both, which must end with `code`."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done.output


def reported(*arguments: object) -> dict:
    """The JSON of a call in this process."""
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def compute(folder: Path, network: Path) -> None:
    """What a device does: the network over each file, one by one."""
    index = json.loads((folder / "index.json").read_text())
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    for path in (folder / "inputs").iterdir():
        tile = np.fromfile(path, "<f4").reshape(index["input"]["shape"])
        scores = session.run(None, {name: tile})[0]
        assert list(scores.shape) == index["output"]["shape"]
        scores.astype("<f4").tofile(folder / "outputs" / f"{path.stem}_0.bin")


@pytest.fixture(scope="module")
def predicted(shop) -> Shop:
    """The same with what a prediction in tiles of one size gives."""
    options = ("--run", shop.run, "--runtime", "onnxruntime", "--tile", "patch", "--scores")
    Unet(shop.folder)("predict", *shop.images, *options, "--output", "masks")
    return shop


@pytest.fixture(scope="module")
def written(shop) -> Path:
    """The folder of tiles, with what the device made of them."""
    folder = shop.folder / "tiles"
    done = Unet(shop.folder)("predict", *shop.images, "--run", shop.run, "--export-inputs", folder, "--json")
    report = json.loads(done.out)
    assert sum(entry["inputs"] for entry in report["done"]) == len(list((folder / "inputs").iterdir()))
    (kept,) = (shop.run / "onnx").iterdir()
    compute(folder, kept)
    return folder


# the way by files


def test_masks_and_scores_by_files_are_those_of_a_prediction_byte_for_byte(predicted, written):
    options = ("--import-outputs", written, "--scores", "--output", "masks-by-files")
    Unet(predicted.folder)("predict", *predicted.images, "--run", predicted.run, *options)

    assert predicted.masks("masks-by-files") == predicted.masks("masks")


def test_an_image_is_found_where_it_is_now_and_its_mask_cleaned_as_ever(flat, written_flat, tmp_path):
    moved = Path(shutil.copy(flat.images[0], tmp_path / "moved.tif"))

    call("predict", moved, "-r", flat.run, "--import-outputs", written_flat, "--keep-largest", "-o", tmp_path / "a")
    call("predict", moved, "-r", flat.run, "--tile", "patch", "--keep-largest", "-o", tmp_path / "b")

    np.testing.assert_array_equal(*(tifffile.imread(tmp_path / name / "moved.tif") for name in "ab"))


@pytest.fixture(scope="module")
def written_flat(flat) -> Path:
    folder = flat.folder / "tiles-here"
    call("predict", *flat.images, "--run", flat.run, "--export-inputs", folder)
    (kept,) = (flat.run / "onnx").iterdir()
    compute(folder, kept)
    return folder


def test_the_index_tells_what_a_program_of_ones_own_needs(flat, written_flat):
    index = json.loads((written_flat / "index.json").read_text())

    assert index["input"] == {"shape": [1, 1, 64, 64], "dtype": "float32"}
    assert index["output"] == {"shape": [1, 2, 64, 64], "dtype": "float32"}
    assert index["tiling"]["overlap"] == [16, 16]
    stack, small, _ = index["images"]
    assert stack["path"] == str(flat.images[0])
    assert [page["size"] for page in stack["pages"]] == [[71, 133]] * 2
    assert stack["pages"][0]["starts"] == [[0, 7], [0, 34, 69]]
    assert stack["pages"][1]["inputs"] == [f"stack-{number:05d}" for number in range(6, 12)]
    assert small["pages"] == [{"size": [41, 30], "starts": [[0], [0]], "inputs": ["small-00000"]}]
    tile = np.fromfile(written_flat / "inputs" / "stack-00002.bin", "<f4").reshape(64, 64)
    pixels = tifffile.imread(flat.images[0])[0, :64, 69:133]
    np.testing.assert_allclose(tile, pixels / 127.5 - 1, atol=1e-6)


def test_tiles_of_another_size_are_written_when_asked_for(flat, tmp_path):
    options = ("--export-inputs", tmp_path / "t", "--tile", "32x48", "--overlap", 0)
    written = reported("predict", flat.images[1], "-r", flat.run, *options)

    assert written["input_shape"] == [1, 1, 32, 48]
    assert [path.stat().st_size for path in (tmp_path / "t" / "inputs").iterdir()] == [4 * 32 * 48] * 2


def test_every_form_of_a_tile_is_written_under_tta(flat, tmp_path):
    call("predict", flat.images[1], "-r", flat.run, "--tta", "--export-inputs", tmp_path / "t")

    index = json.loads((tmp_path / "t" / "index.json").read_text())
    assert (index["tta"], index["tiling"]["forms_per_tile"]) == (True, 8)
    first, turned = (np.fromfile(tmp_path / "t" / "inputs" / f"small-0000{i}.bin", "<f4") for i in (0, 2))
    np.testing.assert_array_equal(turned.reshape(64, 64), np.rot90(first.reshape(64, 64)))


def test_mindspore_is_not_imported(flat, tmp_path):
    arguments = ["predict", str(flat.images[1]), "-r", str(flat.run), "--export-inputs", str(tmp_path / "tiles")]
    code = (
        "import sys; from unetcli.cli import app; app(sys.argv[1:], standalone_mode=False); "
        "print({'mindspore', 'onnxruntime', 'openvino'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=ENVIRONMENT, capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.splitlines()[-1] == "set()"


def test_a_bad_image_leaves_no_tiles_and_the_others_are_written(flat, tmp_path):
    whole = flat.images[0].read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) - 500])

    folder = tmp_path / "t"
    talk = call("predict", flat.images[1], tmp_path / "cut.tif", "-r", flat.run, "--export-inputs", folder, code=6)

    assert "1 of 2 images failed" in talk
    assert [path.name for path in (folder / "inputs").iterdir()] == ["small-00000.bin"]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.unlink(), "stack-00003_0.bin: no such file, nor stack-00003.bin"),
        (
            lambda path: path.write_bytes(bytes(10)),
            "stack-00003_0.bin: has 10 bytes, but scores of 1 x 2 x 64 x 64 have",
        ),
        (
            lambda path: np.full(8192, np.nan, "<f4").tofile(path),
            "stack-00003_0.bin: 8192 of 8192 scores are NaN or infinite",
        ),
    ],
)
def test_a_bad_output_is_one_error_and_no_mask(flat, written_flat, tmp_path, spoil, says):
    folder = shutil.copytree(written_flat, tmp_path / "tiles")
    spoil(folder / "outputs" / "stack-00003_0.bin")

    talk = call("predict", flat.images[0], "-r", flat.run, "--import-outputs", folder, "-o", tmp_path / "masks", code=3)

    assert says in talk
    assert talk.count("error: ") == 1
    assert list((tmp_path / "masks").glob("*")) == []


def test_tiles_of_another_checkpoint_or_image_are_refused(flat, written_flat, tmp_path):
    changed = tmp_path / "stack.tif"
    tifffile.imwrite(changed, np.zeros((71, 133), np.uint8))
    run = shutil.copytree(flat.run, tmp_path / "run")
    (run / "best.ckpt").chmod(0o600)
    (run / "best.ckpt").write_bytes(b"other")

    options = ("--import-outputs", written_flat, "-o", tmp_path / "masks")
    assert "stack.tif: has changed since" in call("predict", changed, "-r", flat.run, *options, code=3)
    assert "is not the checkpoint of" in call("predict", flat.images[0], "-r", run, *options, code=4)
    assert not (tmp_path / "masks").exists()


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--export-inputs", "new", "-r", "other"], 2, "--export-inputs: takes one run, but 2 are named"),
        (["--export-inputs", "new", "--scores"], 2, "--scores: cannot be with --export-inputs, which computes nothing"),
        (["--export-inputs", "new", "--max-memory", "1GB"], 2, "--max-memory: cannot be with --export-inputs"),
        (["--export-inputs", "new", "--import-outputs", "new"], 2, "--import-outputs: cannot be with --export-inputs"),
        (["--export-inputs", "run"], 2, "run: already exists"),
        (["--export-inputs", "run", "--overwrite"], 2, "run: is there and holds no index.json, so it is not replaced"),
        (["--export-inputs", "new", "--tile", "50x64"], 2, "--tile 50 does not fit"),
        (["--export-inputs", "new", "--tile", "32x64", "--tta"], 2, "--tta: a quarter turn gives tiles of 32 x 64"),
        (["--import-outputs", "new"], 3, "new: no index.json in it"),
        (
            ["--import-outputs", "new", "--tile", "32x32"],
            2,
            "--tile: cannot be with --import-outputs, since the tiles are",
        ),
        (["--import-outputs", "new", "--no-tta"], 2, "--tta: cannot be with --import-outputs"),
        (["--import-outputs", "new", "--runtime", "openvino"], 2, "--runtime: cannot be with --import-outputs"),
    ],
)
def test_what_cannot_be_is_refused_and_writes_nothing(flat, monkeypatch, options, code, says):
    monkeypatch.chdir(flat.folder)
    before = contents(flat.folder)
    assert says in call("predict", "small.png", "-r", "run", "-o", "none", *options, code=code)
    assert contents(flat.folder) == before


def test_two_images_of_one_name_are_refused(flat, tmp_path):
    other = tmp_path / "small.tif"
    tifffile.imwrite(other, np.zeros((9, 9), np.uint8))
    talk = call("predict", flat.images[1], other, "-r", flat.run, "--export-inputs", tmp_path / "t", code=2)
    assert "small.tif: its tiles would be called small-00000.bin, as those of another image are" in talk
    assert not (tmp_path / "t").exists()


# the bundle


def run_bundle(bundle: Path, *arguments: object, code: int = 0, **environment: str) -> str:
    command = [sys.executable, str(bundle / "run.py"), *map(str, arguments)]
    done = subprocess.run(
        command, cwd=bundle.parent, env=ENVIRONMENT | environment, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def bundle(shop) -> Path:
    folder = shop.folder / "bundle"
    call("export", "--run", shop.run, "--format", "ONNX", "--bundle", folder, "--check", shop.images[0])
    return folder


@pytest.fixture(scope="module")
def lite(flat) -> Path:
    folder = flat.folder / "bundle-of-mindir"
    call("export", "--run", flat.run, "--bundle", folder, "--check", flat.images[0])
    return folder


def test_a_bundle_has_all_that_a_device_needs(bundle):
    names = {str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()}
    assert names == {"model.onnx", "model.json", "convert.sh", "run.py", "example/input.bin", "example/output.bin"}
    facts = json.loads((bundle / "model.json").read_text())
    assert facts["agreement"]["equal_labels"] >= 0.9999
    assert facts["input"]["name"] == onnxruntime.InferenceSession(bundle / "model.onnx").get_inputs()[0].name
    sizes = ",".join(map(str, facts["input"]["shape"]))
    assert f"--inputShape={facts['input']['name']}:{sizes}\n" in (bundle / "convert.sh").read_text()
    assert (bundle / "example" / "input.bin").stat().st_size == 4 * np.prod(facts["input"]["shape"])
    assert len(facts["preprocessing"]) >= 5


def test_the_runner_gives_the_masks_of_a_prediction_and_needs_no_unet(predicted, bundle):
    blind = predicted.folder / "blind"
    (blind / "unetcli").mkdir(parents=True)
    (blind / "unetcli" / "__init__.py").write_text("raise AssertionError('it needs unet')")

    talk = run_bundle(bundle, "--check", *predicted.images, "--output", "masks-of-runner", PYTHONPATH=str(blind))

    assert "equal labels 100.000%" in talk
    for image in predicted.images:
        name = f"{image.stem}.png" if image.suffix == ".jpg" else image.name
        ours, theirs = (predicted.folder / place / name for place in ("masks", "masks-of-runner"))
        if image.suffix == ".gz":
            ours, theirs = nib.load(ours), nib.load(theirs)
            np.testing.assert_allclose(theirs.affine, ours.affine, atol=1e-6)
            assert theirs.get_data_dtype() == ours.get_data_dtype()
            np.testing.assert_array_equal(np.asarray(theirs.dataobj), np.asarray(ours.dataobj))
        elif ours.suffix == ".png":
            np.testing.assert_array_equal(*(cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in (theirs, ours)))
        else:
            np.testing.assert_array_equal(tifffile.imread(theirs), tifffile.imread(ours))
            with tifffile.TiffFile(theirs) as one, tifffile.TiffFile(ours) as other:
                for tag in ("XResolution", "YResolution", "ResolutionUnit"):
                    assert one.pages.first.tags[tag].value == other.pages.first.tags[tag].value


def test_the_runner_gives_tiles_their_outputs(written, bundle, tmp_path):
    folder = shutil.copytree(written, tmp_path / "tiles")
    shutil.rmtree(folder / "outputs")
    (folder / "outputs").mkdir()

    run_bundle(bundle, "--tiles", folder)

    names = [path.name for path in (written / "outputs").iterdir()]
    for name in names:
        found, expected = (np.fromfile(place / "outputs" / name, "<f4") for place in (folder, written))
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert len(list((folder / "outputs").iterdir())) == len(names)
    index = folder / "index.json"
    index.write_text(index.read_text().replace('"shape": [\n      1,', '"shape": [\n      2,'))
    assert "but the network takes" in run_bundle(bundle, "--tiles", folder, code=1)


def test_the_runner_does_not_replace_a_mask(bundle, shop):
    talk = run_bundle(bundle, shop.images[0], "--output", shop.images[0].parent, code=1)
    assert "already exists" in talk


def test_a_network_that_computes_something_else_fails_the_check(bundle, tmp_path):
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    expected = np.fromfile(folder / "example" / "output.bin", "<f4")
    (expected + np.float32(0.01)).tofile(folder / "example" / "output.bin")

    assert "onnxruntime disagrees with the run" in run_bundle(folder, "--check", code=1)
    run_bundle(folder, "--check", "--tolerance", 0.011)


def test_a_bundle_of_mindir_runs_in_mindspore(lite):
    assert "equal labels 100.000%" in run_bundle(lite, "--check", "--backend", "mindspore")
    assert "--inputShape=x:1,1,64,64\n" in (lite / "convert.sh").read_text()


def test_mindspore_lite_is_called_as_its_documentation_says(lite, tmp_path):
    """It cannot be installed here; what stands for it knows the example alone."""
    (tmp_path / "mindspore_lite.py").write_text(f"""
import numpy
class Context: target = []
class ModelType: MINDIR = "MINDIR"
class Tensor:
    def set_data_from_numpy(self, array): self.array = array
    def get_data_to_numpy(self): return self.array
class Model:
    def build_from_file(self, path, kind, context):
        assert (path, kind, context.target) == ({str(lite / "model.mindir")!r}, "MINDIR", ["ascend"])
    def get_inputs(self): return [Tensor()]
    def predict(self, inputs):
        example = numpy.fromfile({str(lite / "example/input.bin")!r}, "f4")
        numpy.testing.assert_array_equal(inputs[0].array.ravel(), example)
        output = Tensor()
        output.array = numpy.fromfile({str(lite / "example/output.bin")!r}, "f4") + numpy.float32(0.015)
        return [output]
""")
    talk = run_bundle(lite, "--check", PYTHONPATH=str(tmp_path))
    assert "largest difference of a score 0.015 (at most 0.02), equal labels 100.000%" in talk


def test_a_backend_that_is_not_there_or_does_not_read_the_file_is_told(lite):
    talk = run_bundle(lite, "--check", "--backend", "onnxruntime", code=1)
    assert "model.mindir: --backend onnxruntime: not installed, or does not read it" in talk


def test_an_air_file_of_an_ascend_is_bundled_but_not_compared(flat, tmp_path, monkeypatch):
    """As far as that shows without one: what MindSpore writes there is made up."""
    monkeypatch.setattr("unetcli.engine.export.check_format", lambda *_: None)
    monkeypatch.setattr(Engine, "export", lambda _, path, *__: path.write_bytes(b"air"))
    folder = tmp_path / "b"

    talk = call("export", "-r", flat.run, "--format", "AIR", "--check", flat.images[1], "--bundle", folder)

    assert "note: the file was not compared with the run, since AIR is read by Ascend's tools alone" in talk
    assert json.loads((folder / "model.json").read_text())["agreement"] is None
    assert "--framework=1" in (folder / "convert.sh").read_text()
    assert "model.air: --backend auto: not installed, or does not read it" in run_bundle(folder, "--check", code=1)


def test_a_bundle_is_of_the_size_that_is_asked_for(flat, tmp_path):
    options = ("--format", "ONNX", "--tile", "32x48", "--check", flat.images[1], "--bundle", tmp_path / "b")
    facts = reported("export", "-r", flat.run, *options)
    assert (facts["bundle"], facts["input"]["shape"]) == (str(tmp_path / "b"), [1, 1, 32, 48])


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--format", "AIR"], 5, "--format AIR: MindSpore writes AIR files on Ascend only, and this runs on CPU"),
        (["--dynamic"], 2, "--dynamic: cannot be with --bundle, since a chip runs one shape"),
        (["--output", "model.mindir"], 2, "--output model.mindir: cannot be with --bundle"),
        (["--tile", "50x64"], 2, "50 does not fit"),
        (["--bundle", "run"], 2, "run: already exists"),
        (
            ["--bundle", "run", "--overwrite"],
            2,
            "--bundle run: is there and holds no model.json, so it is not replaced",
        ),
        (["--check", "nowhere.tif"], 3, "nowhere.tif: no such file or folder"),
    ],
)
def test_a_bundle_that_cannot_be_is_refused_before_any_work(flat, monkeypatch, options, code, says):
    monkeypatch.chdir(flat.folder)
    before = contents(flat.folder)
    assert says in call("export", "-r", "run", "--bundle", "new", *options, code=code)
    assert contents(flat.folder) == before


def test_the_runner_names_what_is_bad_does_the_rest_and_leaves_no_half_mask(workshop, tmp_path):
    bundle = tmp_path / "bundle"
    workshop.unet("export", "--format", "ONNX", "--bundle", bundle)
    whole = (SAMPLE / "test-volume.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.tif").write_text("no image")
    photograph = cv2.imencode(".jpg", tifffile.imread(SAMPLE / "test-volume.tif")[0])[1].tobytes()
    (tmp_path / "cut.jpg").write_bytes(photograph[: len(photograph) // 2])
    images = [tmp_path / "cut.tif", tmp_path / "text.tif", tmp_path / "cut.jpg", SAMPLE / "test-volume.tif"]
    done = subprocess.run(
        [sys.executable, bundle / "run.py", *images, "--output", tmp_path / "masks"],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]  # tifffile has its own words too
    assert [line.split(": ")[1] for line in told[:3]] == [str(path) for path in images[:3]]
    assert done.stderr.endswith("error: 3 of 4 images failed\n")
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["test-volume.tif"]
    (bundle / "model.onnx").write_bytes(b"damaged")
    done = subprocess.run(
        [sys.executable, bundle / "run.py", "--check"], capture_output=True, encoding="utf-8", check=False
    )
    assert (done.returncode, done.stderr.startswith(f"error: {bundle / 'model.onnx'}: ")) == (1, True)
