from __future__ import annotations

import gzip
import json
import pickle

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile

from unetcli.data.formats.volumes import find_volumes, open_volume
from unetcli.errors import DataError


@pytest.fixture
def pages(rng):
    return rng.integers(0, 1000, (6, 5, 7), dtype=np.uint16)


@pytest.fixture
def folder(tmp_path):
    names = ("v10.nii.gz", "v2.NII", "a.mhd", "a.raw", "b.mhd", "b.zraw", "c.tif", "d.nrrd", "e.png", ".f.nii", "g.gz")
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "1").write_bytes(bytes(128) + b"DICM")
    return tmp_path


def names(paths):
    return [path.name for path in paths]


def test_a_folder_means_its_volumes_without_the_voxels_of_headers(folder):
    assert names(find_volumes([folder])) == [*("a.mhd", "b.mhd", "c.tif", "d.nrrd", "series", "v2.NII", "v10.nii.gz")]


def test_voxels_of_headers_are_passed_over_where_the_shell_names_them(folder):
    assert names(find_volumes(sorted(folder.glob("[ab].*")))) == ["a.mhd", "b.mhd"]
    assert names(find_volumes([folder / "[ab].*"])) == ["a.mhd", "b.mhd"]
    with pytest.raises(DataError, match="no volumes given") as caught:
        find_volumes([folder / "a.raw"])
    assert "not its .raw" in caught.value.hint


def test_a_folder_of_dicom_is_a_volume(folder):
    assert names(find_volumes([folder / "series"])) == ["series"]
    assert names(find_volumes([folder / "*s"])) == ["series"]
    (folder / "series" / "x.nii").touch()
    assert names(find_volumes([folder / "series"])) == ["series", "x.nii"]


def test_a_folder_without_volumes_is_told_of(tmp_path):
    with pytest.raises(DataError, match=r"no volumes in this folder; looked for \.mha, \.mhd, .*\.tiff"):
        find_volumes([tmp_path])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello there", "begins with 'hello th'"),
        (b"\x89PNG\r\n\x1a\n", "is PNG"),
        (b"PK\3\4....", "is ZIP"),
        (gzip.compress(b"hello there"), "begins with 'hello th'"),
        (gzip.compress(b"\0\0\0\1" + bytes(100)), "is FreeSurfer MGH"),
        (gzip.compress(b""), "is gzip"),
        (b"\x1f\x8b\x08\0????", "must be NIfTI|cannot be read"),
        (b"\x89HDF\r\n", "is HDF5"),
        (None, "No such file"),
    ],
)
def test_what_is_no_volume_is_refused(tmp_path, content, message):
    path = tmp_path / "x.nii.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        open_volume(path)
    assert str(path) in str(caught.value)
    assert caught.value.hint


def test_voxels_without_their_header_point_to_it(tmp_path):
    (tmp_path / "x.raw").write_bytes(bytes(1000))
    with pytest.raises(DataError) as caught:
        open_volume(tmp_path / "x.raw")
    assert ".mhd" in caught.value.hint


def test_pages_of_a_tif_are_slices_and_imagej_tells_their_distance(tmp_path, pages):
    tifffile.imwrite(
        tmp_path / "a.tif",
        pages,
        imagej=True,
        resolution=(4, 2),
        metadata={"unit": "um", "spacing": 3.5, "axes": "ZYX"},
    )
    volume = open_volume(tmp_path / "a.tif")
    assert (volume.format, volume.num_channels, volume.dtype) == ("tif", 1, np.uint16)
    assert volume.geometry.size == (6, 5, 7)
    assert volume.geometry.spacing == pytest.approx((0.0035, 0.0005, 0.00025))
    assert (volume.has_spacing, volume.notes) == (True, ())
    np.testing.assert_array_equal(volume.read()[0], pages)


def test_ome_tells_the_size_of_voxels_too(tmp_path, pages):
    metadata = {"axes": "ZYX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 3500}
    metadata |= {"PhysicalSizeZUnit": "nm"}
    tifffile.imwrite(tmp_path / "a.ome.tif", pages, metadata=metadata)
    assert open_volume(tmp_path / "a.ome.tif").geometry.spacing == pytest.approx((0.0035, 0.0005, 0.00025))


@pytest.mark.parametrize(
    ("options", "note"),
    [
        ({}, "does not tell the size of its voxels"),
        ({"resolution": (72, 72)}, "does not tell the size of its voxels"),
        (
            {"imagej": True, "resolution": (4, 2), "metadata": {"unit": "um", "axes": "ZYX"}},
            "not the distance of its slices",
        ),
        ({"imagej": True, "metadata": {"unit": "pixel", "spacing": 2, "axes": "ZYX"}}, "does not tell the size"),
    ],
)
def test_a_tif_without_sizes_has_a_spacing_of_1_and_says_so(tmp_path, pages, options, note):
    tifffile.imwrite(tmp_path / "a.tif", pages, **options)
    volume = open_volume(tmp_path / "a.tif")
    assert (volume.geometry.spacing, volume.has_spacing) == ((1, 1, 1), False)
    assert note in volume.notes[0]


def test_channels_of_a_tif_are_channels(tmp_path, rng):
    stack = rng.integers(0, 9, (6, 2, 5, 7), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "ZCYX"})
    volume = open_volume(tmp_path / "a.tif")
    assert volume.num_channels == 2
    np.testing.assert_array_equal(volume.read(), stack.swapaxes(0, 1))
    with pytest.raises(DataError, match="has 2 channels, but the network takes 1"):
        open_volume(tmp_path / "a.tif", num_channels=1)


def test_a_tif_that_is_no_volume_is_refused(tmp_path, rng):
    stack = rng.integers(0, 9, (2, 3, 5, 7), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "TZYX"})
    with pytest.raises(DataError, match="has 3 slices at 2 times"):
        open_volume(tmp_path / "a.tif")
    with tifffile.TiffWriter(tmp_path / "b.tif") as tif:
        tif.write(stack[0, 0])
        tif.write(stack[0, 0, :3])
    with pytest.raises(DataError, match="has pages of 2 sizes"):
        open_volume(tmp_path / "b.tif")
    with tifffile.TiffWriter(tmp_path / "c.tif") as tif:
        tif.write(stack[0, 0])
        tif.write(stack[0, 0].astype(np.uint16))
    with pytest.raises(DataError, match="page 2 is uint16 of 1 channel, but the first is uint8 of 1"):
        open_volume(tmp_path / "c.tif").read()


def test_a_volume_goes_to_other_processes(tmp_path, pages):
    sitk.WriteImage(sitk.GetImageFromArray(pages), str(tmp_path / "a.mha"))
    nib.save(nib.Nifti1Image(pages, np.eye(4)), tmp_path / "a.nii")
    tifffile.imwrite(tmp_path / "a.tif", pages)
    for name in ("a.mha", "a.nii", "a.tif"):
        volume = open_volume(tmp_path / name)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(volume)).read(), volume.read())  # noqa: S301


def test_every_odd_file_is_read_or_refused_with_a_reason_and_nothing_is_printed(real_data, capfd):
    refused = {"rgb_test_file.nii.gz", "test.mgz", "MR_truncated.dcm", "shapes_multi_size.tif"}
    refused |= {"fixed.raw", "2D_2x2_square_object_at_(1,3).raw"}
    files = [entry["file"] for entry in json.loads((real_data / "odd" / "manifest.json").read_text())]
    assert refused < set(files)
    for path in (real_data / "odd" / name for name in files):
        if path.name in refused:
            with pytest.raises(DataError) as caught:
                open_volume(path)
            assert str(path) in str(caught.value)
            assert caught.value.hint
        else:
            volume = open_volume(path)
            assert volume.read().shape == (volume.num_channels, *volume.geometry.size)
    assert capfd.readouterr() == ("", "")
