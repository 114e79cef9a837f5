from __future__ import annotations

import shutil

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from unetcli.core.geometry import Geometry
from unetcli.data.formats import nifti
from unetcli.data.formats.volume_masks import (
    map_volume,
    output_name,
    plan_volume_outputs,
    volume_stem,
    write_labels,
    write_scores,
    write_volume,
)
from unetcli.data.formats.volumes import open_volume
from unetcli.errors import ConfigError, DataError

TYPES = ("?", "u1", "i1", "<i2", ">i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", ">f4", "f8")
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@st.composite
def grids(draw, *, can_shear=True):
    """Any grid of a patient's size, turned and mirrored in any way."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    vectors, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    if can_shear and draw(st.booleans()):
        vectors = vectors + rng.uniform(-0.3, 0.3, (3, 3))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    if draw(st.booleans()):  # as most scanners lay it
        vectors = np.diag(rng.choice([-1.0, 1.0], 3))[rng.permutation(3)]
    return Geometry(
        draw(st.tuples(*[st.integers(1, 5)] * 3)),
        draw(st.tuples(*[st.floats(0.1, 10)] * 3)),
        draw(st.tuples(*[st.floats(-500, 500)] * 3)),
        tuple(tuple(map(float, vector)) for vector in vectors),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("volumes")


@pytest.fixture
def labels(rng):
    return rng.integers(0, 3, (3, 4, 5), dtype=np.uint8)


def sitk_image(geometry, array):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(geometry.spacing[::-1])
    image.SetOrigin(geometry.origin)
    image.SetDirection(np.array(geometry.direction[::-1]).T.ravel().tolist())
    return image


@given(st.data())
@settings(max_examples=60)
def test_any_grid_type_and_channels_come_back_from_nifti(folder, data):
    geometry = data.draw(grids())
    dtype = np.dtype(data.draw(st.sampled_from(TYPES)))
    num_channels = data.draw(st.integers(1, 3))
    array = np.arange(num_channels * np.prod(geometry.size)).reshape(num_channels, *geometry.size)
    array = (array % 2 if dtype.kind == "b" else array % 100).astype(dtype)
    path = folder / data.draw(st.sampled_from(["a.nii", "a.nii.gz"]))

    write_volume(path, array, geometry, compress=path.suffix == ".gz")
    volume = open_volume(path)

    assert volume.geometry.difference(geometry) == ""
    assert volume.dtype == {"?": np.uint8, "f2": np.float32}.get(
        dtype.str[1:].replace("b1", "?"), dtype.newbyteorder("=")
    )
    np.testing.assert_array_equal(volume.read(), array)
    header = nib.load(path).header
    assert (header["sform_code"], header.get_xyzt_units()[0]) == (1, "mm")
    assert header["qform_code"] == (0 if geometry.is_sheared else 1)
    if path.suffix == ".nii":
        mapped = map_volume(path)
        assert (mapped.offset, mapped.dtype, mapped.flags.writeable) == (352, volume.dtype, False)
        np.testing.assert_array_equal(mapped, array)


@given(grids(can_shear=False))
@settings(max_examples=30)
def test_simpleitk_sees_voxels_where_the_geometry_has_them(folder, geometry):
    write_volume(folder / "b.nii", np.zeros(geometry.size, np.uint8), geometry, compress=False)
    image = sitk.ReadImage(str(folder / "b.nii"))
    for z, y, x in np.ndindex(geometry.size):
        world = image.TransformIndexToPhysicalPoint((x, y, z))
        np.testing.assert_allclose(world, (geometry.affine @ (z, y, x, 1))[:3], atol=1e-3)


@given(geometry=grids(), suffix=st.sampled_from(["mhd", "mha", "nrrd", "nii", "nii.gz"]))
@settings(max_examples=60)
def test_masks_have_the_grid_of_their_source_to_the_last_bit(folder, geometry, suffix):
    source_path = folder / f"source.{suffix}"
    if suffix.startswith("nii"):
        affine = LPS @ geometry.affine[:, [2, 1, 0, 3]]
        nib.save(nib.Nifti1Image(np.zeros(geometry.size[::-1], np.int16), affine), source_path)
    else:
        sitk.WriteImage(sitk_image(geometry, np.zeros(geometry.size, np.int16)), str(source_path))
    source = open_volume(source_path)
    labels = np.arange(np.prod(geometry.size)).reshape(geometry.size) % 2
    path = folder / "masks" / output_name(source)

    write_labels(path, labels, (0, 7), source)

    written = open_volume(path)
    assert written.geometry == source.geometry
    assert (written.format, written.dtype) == (source.format, np.uint8)
    np.testing.assert_array_equal(written.read()[0], labels * 7)


@pytest.mark.parametrize(
    ("values", "dtype"), [((0, 1, 255), np.uint8), ((0, 256, 1), np.uint16), ((0, 1, 70000), np.uint32)]
)
@pytest.mark.parametrize("suffix", ["nii.gz", "mhd", "mha", "nrrd"])
def test_the_smallest_type_that_holds_the_values_is_written(tmp_path, labels, values, dtype, suffix):
    write_volume(tmp_path / "a.nii", labels, Geometry((3, 4, 5), (1, 2, 3)), compress=False)
    source = open_volume(tmp_path / "a.nii")
    path = tmp_path / f"m.{suffix}"

    write_labels(path, labels, values, source)

    volume = open_volume(path)
    assert volume.dtype == dtype
    np.testing.assert_array_equal(volume.read()[0], np.array(values)[labels])
    image = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    np.testing.assert_array_equal(image, np.array(values)[labels])
    assert sorted(tmp_path.iterdir()) == sorted(
        {tmp_path / "a.nii", path, *([tmp_path / "m.zraw"] if suffix == "mhd" else [])}
    )


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3), (5, 4, 3, 1), (5, 4, 3, 2)])
def test_the_header_of_a_nifti_source_is_repeated_but_for_its_values(tmp_path, rng, kind, shape):
    header = kind.header_class(endianness=">")
    header.set_data_dtype(">i2")
    image = kind(rng.integers(0, 9, shape, dtype=np.int16), np.eye(4), header)
    image.set_sform(np.array([[-1.0, 0.1, 0, 3.3], [0, 2, 0, 4.7], [0, 0.2, 3, 5.9], [0, 0, 0, 1]]), 4)
    image.set_qform(np.diag([-1.5, 2.5, 3.5, 1]), 3)
    image.header.set_xyzt_units("micron", "sec")
    image.header.set_slope_inter(0.5, 3)
    image.header["cal_max"] = 900
    image.header["descrip"] = b"a scan"
    image.header.set_intent("z score", (), "z")
    nib.save(image, tmp_path / "a.nii")
    source = open_volume(tmp_path / "a.nii")
    labels = rng.integers(0, 2, source.geometry.size)

    write_labels(tmp_path / "m.nii.gz", labels, (0, 1), source)
    write_scores(tmp_path / "s.nii.gz", np.stack([labels, 1 - labels]).astype(np.float32), source)

    before = nib.load(tmp_path / "a.nii").header
    for name in ("m.nii.gz", "s.nii.gz"):
        after = nib.load(tmp_path / name).header
        fields = ("sform_code", "qform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d")
        for field in (*fields, "qoffset_x", "qoffset_y", "qoffset_z", "xyzt_units", "descrip"):
            np.testing.assert_array_equal(after[field], before[field])
        np.testing.assert_array_equal(
            after["pixdim"][: 1 + min(len(shape), 3)], before["pixdim"][: 1 + min(len(shape), 3)]
        )
        assert after.get_slope_inter() in {(None, None), (1, 0)}
        assert after.get_intent()[0] == "none"
        assert after["cal_max"] == 0
        assert after.endianness == "<"
        assert isinstance(after, type(before))
        assert open_volume(tmp_path / name).geometry == source.geometry
    assert nib.load(tmp_path / "m.nii.gz").shape == shape[:3]
    np.testing.assert_array_equal(open_volume(tmp_path / "m.nii.gz").read()[0], labels)
    np.testing.assert_array_equal(open_volume(tmp_path / "s.nii.gz").read(), [labels, 1 - labels])


def test_scores_are_nifti_on_the_grid_of_any_source(tmp_path, rng):
    geometry = Geometry((3, 4, 5), (3.0, 0.7, 0.5), (1.5, -20, 30), ((0, 0.6, 0.8), (0, 1, 0), (1, 0, 0)))
    scores = rng.random((2, 3, 4, 5), dtype=np.float32)
    sitk.WriteImage(sitk_image(geometry, scores[0]), str(tmp_path / "a.nrrd"))
    write_scores(tmp_path / "a_scores.nii.gz", scores, open_volume(tmp_path / "a.nrrd"))
    volume = open_volume(tmp_path / "a_scores.nii.gz")
    assert volume.geometry.difference(geometry) == ""
    assert volume.dtype == np.float32
    np.testing.assert_array_equal(volume.read(), scores)


def test_a_mask_of_a_slice_stays_a_slice(tmp_path, rng):
    pixels = rng.integers(0, 9, (4, 5), dtype=np.int16)
    image = sitk.GetImageFromArray(pixels)
    image.SetSpacing((0.3, 0.7))
    image.SetDirection((0, -1, 1, 0))
    for suffix in ("mhd", "mha", "nrrd"):
        sitk.WriteImage(image, str(tmp_path / f"a.{suffix}"))
        source = open_volume(tmp_path / f"a.{suffix}")
        write_labels(tmp_path / f"m.{suffix}", pixels[None] % 2, (0, 1), source)
        written = sitk.ReadImage(str(tmp_path / f"m.{suffix}"))
        assert written.GetDimension() == 2
        assert written.GetSpacing() == image.GetSpacing()
        assert written.GetDirection() == image.GetDirection()
        np.testing.assert_array_equal(sitk.GetArrayFromImage(written), pixels % 2)


@pytest.mark.parametrize("suffix", ["mha", "nrrd"])
def test_a_mask_of_a_volume_of_vectors_has_one_channel(tmp_path, rng, labels, suffix):
    image = sitk.GetImageFromArray(rng.random((3, 4, 5, 2)), isVector=True)
    image.SetSpacing((0.1, 0.7, 3.3))
    sitk.WriteImage(image, str(tmp_path / f"a.{suffix}"))
    source = open_volume(tmp_path / f"a.{suffix}")
    write_labels(tmp_path / f"m.{suffix}", labels, (0, 1, 2), source)
    written = open_volume(tmp_path / f"m.{suffix}")
    assert (written.num_channels, written.geometry) == (1, source.geometry)


def test_a_mask_of_four_axes_in_metaimage_has_three(tmp_path, rng, labels):
    image = sitk.GetImageFromArray(rng.random((2, 3, 4, 5)), isVector=False)
    image.SetSpacing((0.1, 0.7, 3.3, 1))
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    source = open_volume(tmp_path / "a.mha")
    write_labels(tmp_path / "m.mha", labels, (0, 1, 2), source)
    assert open_volume(tmp_path / "m.mha").geometry == source.geometry
    assert sitk.ReadImage(str(tmp_path / "m.mha")).GetDimension() == 3


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"imagej": True, "resolution": (4, 2), "metadata": {"unit": "um", "spacing": 3.5, "axes": "ZYX"}},
        {
            "metadata": {"axes": "ZYX", "PhysicalSizeX": 0.1625, "PhysicalSizeY": 4171.872, "PhysicalSizeZ": 3},
            "ome": True,
        },
    ],
)
def test_a_mask_of_a_tif_is_a_tif_with_its_sizes(tmp_path, rng, labels, options):
    tifffile.imwrite(
        tmp_path / "a.tif", rng.integers(0, 9, (3, 4, 5), dtype=np.uint16), **options, photometric="minisblack"
    )
    source = open_volume(tmp_path / "a.tif")
    write_labels(tmp_path / "m.tif", labels, (0, 100, 255), source)
    written = open_volume(tmp_path / "m.tif")
    assert written.has_spacing == source.has_spacing == bool(options)
    assert written.geometry.spacing == pytest.approx(source.geometry.spacing, rel=1e-8)
    np.testing.assert_array_equal(written.read()[0], np.array([0, 100, 255])[labels])


def test_what_does_not_read_back_is_not_put_in_place(tmp_path, labels, monkeypatch):
    write_volume(tmp_path / "a.nii", labels, Geometry((3, 4, 5), (1, 2, 3)), compress=False)
    source = open_volume(tmp_path / "a.nii")
    for suffix in ("nii.gz", "mhd", "nrrd"):
        write_labels(tmp_path / f"m.{suffix}", labels, (0, 1, 2), source)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    real = nifti.Path.write_bytes
    monkeypatch.setattr(nifti.Path, "write_bytes", lambda path, content: real(path, content[:-9]))
    monkeypatch.setattr(
        "unetcli.data.formats.volume_masks.write_nifti",
        lambda path, header, voxels, level: nifti.write_nifti(path, header, 1 - voxels, level=level),
    )
    for suffix in ("nii.gz", "mhd", "nrrd"):
        with pytest.raises(DataError, match=f"m.{suffix}"):
            write_labels(tmp_path / f"m.{suffix}", labels, (0, 1, 3), source)
    with pytest.raises(DataError, match=r"s\.nii\.gz: was written but does not read back"):
        write_scores(tmp_path / "s.nii.gz", labels[None].astype(np.float32), source)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_where_nothing_can_be_written_the_place_is_named(tmp_path, labels):
    geometry = Geometry((3, 4, 5), (1, 2, 3))
    write_volume(tmp_path / "a.nii", labels, geometry, compress=False)
    source = open_volume(tmp_path / "a.nii")
    place = tmp_path / "a.nii" / "m.nii.gz"
    for write in (
        lambda: write_labels(place, labels, (0, 1, 2), source),
        lambda: write_scores(place, labels[None].astype(np.float32), source),
        lambda: write_volume(place, labels, geometry, compress=True),
    ):
        with pytest.raises(DataError, match=r"m\.nii\.gz: cannot be written"):
            write()


def test_arrays_that_do_not_fit_are_a_callers_mistake(tmp_path, labels):
    geometry = Geometry((3, 4, 5), (1, 2, 3))
    write_volume(tmp_path / "a.nii", labels, geometry, compress=False)
    source = open_volume(tmp_path / "a.nii")
    with pytest.raises(ValueError, match="must be of"):
        write_labels(tmp_path / "m.nii", labels[:2], (0, 1, 2), source)
    with pytest.raises(ValueError, match=r"must be in 0\.\.1"):
        write_labels(tmp_path / "m.nii", labels, (0, 1), source)
    with pytest.raises(ValueError, match="must be finite"):
        write_scores(tmp_path / "m.nii", np.full((2, 3, 4, 5), np.nan, np.float32), source)
    with pytest.raises(ValueError, match=r"must be .K, Z, Y, X."):
        write_scores(tmp_path / "m.nii", np.zeros((3, 4, 5), np.float32), source)
    with pytest.raises(ValueError, match=r"must be .C, Z, Y, X."):
        write_volume(tmp_path / "m.nii", labels[1:], geometry, compress=False)
    with pytest.raises(TypeError, match="complex64"):
        write_volume(tmp_path / "m.nii", labels.astype(np.complex64), geometry, compress=False)


def test_large_volumes_are_packed_and_unpacked_piece_by_piece(tmp_path, labels, monkeypatch):
    geometry = Geometry((3, 4, 5), (1, 2, 3))
    for name, value in (("ONE_GO", 10), ("PIECE", 7)):
        monkeypatch.setattr(nifti, name, value)
    write_volume(tmp_path / "a.nii.gz", labels, geometry, compress=True)
    source = open_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(source.read()[0], labels)
    write_labels(tmp_path / "m.nii.gz", labels, (0, 1, 2), source)
    np.testing.assert_array_equal(open_volume(tmp_path / "m.nii.gz").read()[0], labels)


def test_a_view_with_strides_is_written_as_it_looks(tmp_path, rng):
    array = rng.integers(0, 99, (5, 4, 3, 2), dtype=np.int16).T
    write_volume(tmp_path / "a.nii", array, Geometry((3, 4, 5), (1, 2, 3)), compress=False)
    np.testing.assert_array_equal(map_volume(tmp_path / "a.nii"), array)


def test_only_files_as_written_are_mapped(tmp_path, labels):
    path = tmp_path / "a.nii"
    write_volume(path, labels, Geometry((3, 4, 5), (1, 2, 3)), compress=False)
    content = path.read_bytes()
    for damaged, message in (
        (content[:-1], "has 411 bytes, but its header tells of 412"),
        (content + b"?", "has 413 bytes"),
        (content[:100], "cannot be read|not a NIfTI"),
        (b"?" * 500, "not a NIfTI"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=message) as caught:
            map_volume(path)
        assert str(path) in str(caught.value)
    write_volume(path, labels, Geometry((3, 4, 5), (1, 2, 3)), compress=True)
    with pytest.raises(DataError, match="is compressed"):
        map_volume(path)
    with pytest.raises(DataError, match="No such file"):
        map_volume(tmp_path / "none.nii")
    image = nib.Nifti1Image(labels.astype(np.int16).T, np.eye(4))
    image.header.set_slope_inter(2, 0)
    nib.save(image, path)
    with pytest.raises(DataError, match="is scaled"):
        map_volume(path)
    nib.save(nib.Nifti1Image(labels.T.astype(">i2"), np.eye(4), nib.Nifti1Header(endianness=">")), path)
    with pytest.raises(DataError, match="of the other byte order"):
        map_volume(path)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("scan.nii.gz", "scan"),
        ("scan.NII", "scan"),
        ("1.2.840.99.mhd", "1.2.840.99"),
        ("scan.ome.tif", "scan"),
        ("scan.v2", "scan.v2"),
        ("scan.seg.nrrd", "scan.seg"),
        (".nii", ".nii"),
    ],
)
def test_a_stem_is_a_name_without_the_suffix_of_a_volume(tmp_path, name, stem):
    assert volume_stem(tmp_path / name) == stem


def test_a_folder_keeps_its_name_whole(tmp_path, monkeypatch):
    (tmp_path / "1.2.840.nii").mkdir()
    monkeypatch.chdir(tmp_path / "1.2.840.nii")
    assert volume_stem(tmp_path / "1.2.840.nii") == volume_stem(nifti.Path()) == "1.2.840.nii"


@pytest.fixture
def sources(tmp_path, labels):
    """The same volume in every format."""
    image = sitk.GetImageFromArray(labels)
    for name in ("a.mhd", "b.mha", "c.nrrd", "d.nii", "f.tif"):
        sitk.WriteImage(image, str(tmp_path / name))
    return [open_volume(tmp_path / name) for name in ("a.mhd", "b.mha", "c.nrrd", "d.nii", "f.tif")]


def test_outputs_are_named_before_any_work(tmp_path, sources):
    plan = plan_volume_outputs(sources, tmp_path / "out", with_scores=True)
    assert [outputs.mask.name for outputs in plan] == ["a.mhd", "b.mha", "c.nrrd", "d.nii.gz", "f.tif"]
    assert [outputs.scores.name for outputs in plan] == [f"{stem}_scores.nii.gz" for stem in "abcdf"]
    assert [path.name for path in plan[0].files] == ["a.mhd", "a.zraw", "a_scores.nii.gz"]
    assert not (tmp_path / "out").exists()


def test_clashes_of_outputs_are_told_of_before_any_work(tmp_path, sources, labels):
    with pytest.raises(ConfigError, match=r"a\.mhd: is an image to segment"):
        plan_volume_outputs(sources, tmp_path, overwrite=True)
    (tmp_path / "other").mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(labels), str(tmp_path / "other" / "D.nii.gz"))
    other = open_volume(tmp_path / "other" / "D.nii.gz")
    with pytest.raises(ConfigError, match="would be the output of both"):
        plan_volume_outputs([sources[3], other], tmp_path / "out")
    path = shutil.copy(sources[3].path, tmp_path / "other" / "c.nii")
    plan_volume_outputs([sources[2], open_volume(path)], tmp_path / "out")
    with pytest.raises(ConfigError, match=r"c_scores\.nii\.gz: would be the output of both"):
        plan_volume_outputs([sources[2], open_volume(path)], tmp_path / "out", with_scores=True)


def test_an_output_that_is_there_is_replaced_only_where_that_is_wanted(tmp_path, sources):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.zraw").touch()
    with pytest.raises(ConfigError, match=r"a\.zraw: already exists"):
        plan_volume_outputs(sources[:1], tmp_path / "out")
    assert plan_volume_outputs(sources[:1], tmp_path / "out", overwrite=True)


def test_a_mask_does_not_replace_the_voxels_of_its_source(tmp_path, labels):
    sitk.WriteImage(sitk.GetImageFromArray(labels), str(tmp_path / "a.mhd"), True)
    (tmp_path / "in").mkdir()
    text = (tmp_path / "a.mhd").read_text().replace("a.zraw", str(tmp_path / "a.zraw"))
    (tmp_path / "in" / "a.mhd").write_text(text)
    (tmp_path / "a.mhd").unlink()
    with pytest.raises(ConfigError, match=r"a\.zraw: is an image to segment"):
        plan_volume_outputs([open_volume(tmp_path / "in" / "a.mhd")], tmp_path, overwrite=True)


@pytest.mark.parametrize(
    "pattern",
    [
        "odd/*.ni*",
        "odd/*.mhd",
        "odd/*.nrrd",
        "ct_chest/images/*.mhd",
        "ct_chest/dicom/t*",
        "ct_totalseg/*ct*",
        "mri*/*",
    ],
)
def test_masks_of_published_volumes_have_their_grid(real_data, tmp_path, pattern):
    paths = [path for path in real_data.glob(pattern) if path.name != "rgb_test_file.nii.gz"]
    assert paths
    for path in paths:
        source = open_volume(path)
        image = source.read()[0]
        labels = (image > image.mean()).astype(np.uint8)
        mask = tmp_path / output_name(source)
        write_labels(mask, labels, (0, 1), source)
        written = open_volume(mask)
        np.testing.assert_array_equal(written.read()[0], labels)
        assert written.geometry.difference(source.geometry) == ""
        assert written.geometry == source.geometry or source.format == "dicom"
