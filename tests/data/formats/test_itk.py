from __future__ import annotations

import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from unetcli.data.formats.volumes import open_volume
from unetcli.errors import DataError

META = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "ElementSpacing": "0.5 0.7 2.5",
    "DimSize": "5 4 3",
    "ElementType": "MET_SHORT",
    "ElementDataFile": "voxels.raw",
}
NRRD = {"type": "short", "dimension": "3", "sizes": "5 4 3", "endian": "little", "encoding": "raw"}
SHEARED = "1 0 0 0 1 0 0 0.6 0.8"


@pytest.fixture
def voxels(rng):
    return rng.integers(-1000, 1000, (3, 4, 5), dtype=np.int16)


@pytest.fixture
def meta(tmp_path, voxels):
    """A function that writes a MetaImage with some lines of its header changed, or left out where they are None."""
    voxels.tofile(tmp_path / "voxels.raw")

    def write(path="a.mhd", **changes):
        lines = {name: value for name, value in {**META, **changes}.items() if value is not None}
        lines["ElementDataFile"] = lines.pop("ElementDataFile")
        (tmp_path / path).write_text("".join(f"{name} = {value}\n" for name, value in lines.items()))
        return tmp_path / path

    return write


def write_nrrd(path, content, **fields):
    lines = "".join(f"{name.replace('_', ' ')}: {value}\n" for name, value in {**NRRD, **fields}.items())
    path.write_bytes(f"NRRD0004\n{lines}\n".encode() + content)
    return path


def check_as_simpleitk(path):
    """Values, and where voxels lie, must be those that SimpleITK tells."""
    volume, image = open_volume(path), sitk.ReadImage(str(path))
    array, expected = volume.read(), sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        expected = np.moveaxis(expected, -1, 0)
    np.testing.assert_array_equal(array, expected.reshape(array.shape))
    assert array.shape == (volume.num_channels, *volume.geometry.size)
    assert array.dtype == volume.dtype == expected.dtype
    assert array.flags.c_contiguous
    assert array.flags.writeable
    for corner in np.ndindex(2, 2, 2):
        z, y, x = (np.array(corner) * (np.array(volume.geometry.size) - 1)).tolist()
        index = (x, y, z, 0)[: image.GetDimension()]
        world = image.TransformIndexToPhysicalPoint(index)[:3]
        np.testing.assert_allclose((volume.geometry.affine @ (z, y, x, 1))[: len(world)], world, atol=1e-3)
    return volume


def test_a_pair_of_header_and_voxels_is_read_whatever_its_name(meta, tmp_path):
    volume = check_as_simpleitk(meta("肺.mhd", Offset="1.5 2.5 -3.5"))
    assert volume.format == "metaimage"
    assert volume.geometry.spacing == (2.5, 0.7, 0.5)
    assert volume.geometry.origin == (1.5, 2.5, -3.5)
    assert (volume.has_spacing, volume.notes) == (True, ())

    other = shutil.copy(tmp_path / "肺.mhd", tmp_path / "named.nii.gz")
    np.testing.assert_array_equal(open_volume(other).read(), volume.read())


@pytest.mark.parametrize("matrix", ["0 1 0 -1 0 0 0 0 1", "0.8 0.6 0 -0.6 0.8 0 0 0 -1", SHEARED])
def test_oblique_and_sheared_grids_of_metaimage_are_read(meta, matrix):
    assert check_as_simpleitk(meta(TransformMatrix=matrix)).geometry.is_sheared == (matrix == SHEARED)


def test_steps_that_are_longer_than_the_spacing_count(meta):
    volume = check_as_simpleitk(meta(TransformMatrix="2 0 0 0 1 0 0 0 1"))
    assert volume.geometry.spacing == (2.5, 0.7, 1.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"BinaryDataByteOrderMSB": "True"},
        {"BinaryDataByteOrderMSB": None, "ElementByteOrderMSB": "True"},
        {"ElementNumberOfChannels": "3", "DimSize": "5 4 1"},
        {"ElementNumberOfChannels": "3", "DimSize": "5 4 1", "BinaryDataByteOrderMSB": "True"},
        {"NDims": "4", "DimSize": "5 4 1 3", "ElementSpacing": "1 2 3 4"},
        {"NDims": "2", "DimSize": "5 4", "ElementSpacing": "1 2"},
        {"ElementType": "MET_UCHAR"},
        {"ElementType": "MET_FLOAT", "DimSize": "5 3 2"},
        {"ElementType": "MET_LONG", "DimSize": "5 3 1"},
        {"HeaderSize": "-1"},
        {"HeaderSize": "20", "DimSize": "5 2 3"},
        {"ElementDataFile": "LIST\nvoxels.raw"},
        {"ElementSpacing": None, "ElementSize": "1 2 3"},
    ],
    ids=str,
)
def test_every_way_to_lay_down_voxels_reads_as_simpleitk_reads_it(meta, changes):
    check_as_simpleitk(meta(**changes))


@pytest.mark.parametrize("suffix", ["mha", "mhd", "nrrd"])
@pytest.mark.parametrize("is_compressed", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_what_simpleitk_writes_is_read(tmp_path, voxels, suffix, is_compressed, dtype):
    image = sitk.GetImageFromArray(voxels.astype(dtype))
    image.SetSpacing((0.1, 0.7, 3.3))
    image.SetOrigin((-1.1, 2.2, 1000.3))
    image.SetDirection((0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1))
    sitk.WriteImage(image, str(tmp_path / f"a.{suffix}"), is_compressed)
    check_as_simpleitk(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize("suffix", ["mha", "nrrd"])
def test_vectors_are_channels(tmp_path, rng, suffix):
    image = sitk.GetImageFromArray(rng.random((3, 4, 5, 2)), isVector=True)
    sitk.WriteImage(image, str(tmp_path / f"a.{suffix}"))
    assert check_as_simpleitk(tmp_path / f"a.{suffix}").num_channels == 2
    with pytest.raises(DataError, match="has 2 channels, but the network takes 1"):
        open_volume(tmp_path / f"a.{suffix}", num_channels=1)


def test_nrrd_in_other_words_reads_as_simpleitk_reads_it(tmp_path, voxels):
    big = voxels.astype(">i2").tobytes()
    place = {"space_directions": "(0.3,0.1,0) (0,1,0.2) (0,0.2,1)", "space_origin": "(1,2,3)"}
    for space in ("right-anterior-superior", "LPS", "LAS"):
        path = write_nrrd(tmp_path / "a.nrrd", big, endian="big", space=space, **place)
        assert check_as_simpleitk(path).geometry.is_sheared
    write_nrrd(tmp_path / "b.nhdr", b"", spacings="1 2 3", data_file="voxels.bin")
    voxels.tofile(tmp_path / "voxels.bin")
    assert check_as_simpleitk(tmp_path / "b.nhdr").geometry.spacing == (3, 2, 1)


def test_files_that_do_not_tell_the_size_of_voxels_say_so(meta, tmp_path, voxels):
    for path in (meta(ElementSpacing=None), write_nrrd(tmp_path / "a.nrrd", voxels.tobytes())):
        volume = check_as_simpleitk(path)
        assert (volume.geometry.spacing, volume.has_spacing) == ((1, 1, 1), False)
        assert volume.notes == ("it does not tell the size of its voxels",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ElementDataFile": "gone.raw"}, "its voxels are in gone.raw, which is not beside it"),
        ({"DimSize": "5 4 30"}, r"its voxels\.raw: cannot be read \(120 of 1200 bytes"),
        ({"DimSize": "5 0 3"}, r"has no voxels \(its size is 5 x 0 x 3\)"),
        ({"DimSize": None}, "a header without DimSize"),
        ({"NDims": None, "ElementType": None}, "a header without NDims and ElementType"),
        ({"ElementType": "MET_STRANGE"}, "cannot be read"),
        ({"ElementSpacing": "1 0 1"}, "does not place its voxels"),
        ({"ElementSpacing": "1 -1 1"}, "does not place its voxels"),
        ({"ElementSpacing": "1 nan 1"}, "does not place its voxels"),
        ({"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "does not place its voxels"),
        ({"CompressedData": "True"}, r"its voxels\.raw: cannot be read \(its compressed voxels are damaged"),
        (
            {"ElementNumberOfChannels": "3", "NDims": "4", "DimSize": "5 2 1 2", "ElementSpacing": "1 1 1 1"},
            "3 values a voxel in each of 2 volumes",
        ),
        ({"NDims": "4", "DimSize": "5 2 1 6", "ElementSpacing": "1 1 1 1"}, "is 4D .5 x 2 x 1 x 6.*takes 1"),
    ],
)
def test_metaimage_that_is_damaged_is_refused_with_the_reason_and_prints_nothing(meta, changes, message, capfd):
    path = meta(**changes)
    with pytest.raises(DataError, match=message) as caught:
        open_volume(path, num_channels=1).read()
    assert str(path) in str(caught.value)
    assert caught.value.hint
    assert capfd.readouterr() == ("", "")


def test_compressed_voxels_that_are_cut_off_or_too_few_are_told_of(tmp_path, voxels, capfd):
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / "a.mha"), True)
    content = (tmp_path / "a.mha").read_bytes()
    for damaged in (content[:-30], content.replace(b"DimSize = 5 4 3", b"DimSize = 5 4 9"), content[:60]):
        (tmp_path / "a.mha").write_bytes(damaged)
        with pytest.raises(DataError, match=r"a\.mha: "):
            open_volume(tmp_path / "a.mha").read()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("fields", "content", "message"),
    [
        ({}, b"1234", "cannot be read"),
        ({"encoding": "gzip"}, b"1234", "cannot be read"),
        ({"type": "strange"}, b"", "cannot be read"),
        ({"data_file": "gone.raw"}, b"", "its voxels are in gone.raw"),
        ({"sizes": "5 4"}, b"", "cannot be read"),
    ],
)
def test_nrrd_that_is_damaged_is_refused_and_prints_nothing(tmp_path, fields, content, message, capfd):
    path = write_nrrd(tmp_path / "a.nrrd", content, **fields)
    with pytest.raises(DataError, match=message) as caught:
        open_volume(path).read()
    assert str(path) in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_published_files_read_as_simpleitk_reads_them(real_data):
    paths = [path for pattern in ("odd/*.mhd", "odd/*.nrrd", "ct_chest/**/*.mhd") for path in real_data.glob(pattern)]
    assert len(paths) == 5
    for path in paths:
        check_as_simpleitk(path)
