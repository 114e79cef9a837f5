from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest

from unetcli.data.formats.volumes import open_volume
from unetcli.errors import DataError

OBLIQUE = np.array([[0.0, -2.0, 0.3, 10.0], [1.5, 0.0, 0.0, -20.0], [0.0, 0.3, 3.0, 30.0], [0, 0, 0, 1]])
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture
def voxels(rng):
    """X Y Z, as nibabel has them."""
    return rng.integers(-1000, 1000, (5, 4, 3), dtype=np.int16)


def save(path, voxels, affine=OBLIQUE, kind=nib.Nifti1Image, **fields):
    image = kind(voxels, affine)
    for name, value in fields.items():
        image.header[name] = value
    nib.save(image, path)
    return path


def patched(path, **fields):
    """The same file with fields of its header changed as they stand."""
    with path.open("rb") as file:
        header = nib.Nifti1Header.from_fileobj(file, check=False)
    for name, value in fields.items():
        header[name] = value
    content = path.read_bytes()
    path.write_bytes(header.binaryblock + content[348:])
    return path


def check_as_nibabel(path):
    """Values, and where voxels lie, must be those that nibabel tells."""
    volume, image = open_volume(path), nib.load(path)
    array = volume.read()
    expected = np.asanyarray(image.dataobj)
    expected = expected.reshape((*expected.shape, 1, 1)[:5] if expected.ndim < 4 else expected.shape)
    expected = expected.reshape(*expected.shape[:3], -1).transpose(3, 2, 1, 0)
    np.testing.assert_allclose(array, expected, rtol=1e-6)
    assert array.shape == (volume.num_channels, *volume.geometry.size)
    assert array.dtype == volume.dtype
    assert array.dtype.isnative
    assert array.flags.c_contiguous
    assert array.flags.writeable
    for index in np.ndindex(2, 2, 2):
        z, y, x = np.array(index) * (np.array(volume.geometry.size) - 1)
        world = LPS @ image.affine @ (x, y, z, 1)
        np.testing.assert_allclose(volume.geometry.affine @ (z, y, x, 1), world, atol=1e-3)
    return volume


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "named-wrongly.mhd.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_oblique_volumes_of_both_versions_read_as_nibabel_reads_them(tmp_path, voxels, name, kind):
    suffix = ".nii.gz" if name.endswith(".gz") else ".nii"
    path = save(tmp_path / f"saved{suffix}", voxels, kind=kind)
    volume = check_as_nibabel(path)
    expected = volume.read()
    path = path.rename(tmp_path / name)
    assert open_volume(path).format == "nifti"
    np.testing.assert_array_equal(open_volume(path).read(), expected)
    assert (volume.dtype, volume.num_channels) == (np.int16, 1)


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", ">i2", ">u2", "<i4", ">f4", "<f4", ">f8", "<u8"])
def test_any_type_and_byte_order_reads_in_its_own_type(tmp_path, rng, dtype):
    voxels = rng.integers(0, 100, (5, 4, 3)).astype(dtype)
    header = nib.Nifti1Header(endianness=">" if dtype.startswith(">") else "<")
    header.set_data_dtype(np.dtype(dtype))
    nib.save(nib.Nifti1Image(voxels, OBLIQUE, header), tmp_path / "a.nii")
    assert check_as_nibabel(tmp_path / "a.nii").dtype == np.dtype(dtype).newbyteorder("=")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_that_are_not_finite_are_read(tmp_path, dtype):
    voxels = np.full((5, 4, 3), np.nan, dtype)
    assert np.isnan(open_volume(save(tmp_path / "a.nii", voxels)).read()).all()


@pytest.mark.parametrize(
    ("dtype", "slope", "intercept", "expected"),
    [
        (np.int16, 1.0, 0.0, np.int16),
        (np.int16, 0.0, 7.0, np.int16),  # a slope of 0 means that there is none
        (np.int16, np.nan, 0.0, np.int16),
        (np.uint8, 0.5, -1024.0, np.float32),
        (np.int16, 2.0, 0.0, np.float32),
        (np.int16, 1e-6, 1e6, np.float64),  # float32 would make neighbouring values equal
        (np.int16, 1e36, 0.0, np.float64),
        (np.int32, 0.1, 0.0, np.float64),
        (np.float32, 0.1, 3.0, np.float32),
        (np.float64, 0.1, 3.0, np.float64),
    ],
)
def test_scaled_values_become_the_smallest_floats_that_tell_them_apart(
    tmp_path, rng, dtype, slope, intercept, expected
):
    voxels = rng.integers(0, 100, (5, 4, 3)).astype(dtype)
    path = patched(save(tmp_path / "a.nii", voxels), scl_slope=slope, scl_inter=intercept)
    volume = check_as_nibabel(path)
    assert volume.dtype == expected
    if expected == np.float32:  # rounded once
        slope, intercept = np.float32(slope), np.float32(intercept)
        exact = voxels.astype(np.float64) * np.float64(slope) + np.float64(intercept)
        np.testing.assert_array_equal(volume.read()[0], exact.T.astype(np.float32))


def test_the_sform_comes_before_the_qform_and_either_before_none(tmp_path, voxels):
    image = nib.Nifti1Image(voxels, None)
    image.set_qform(np.diag([2.0, 2, 2, 1]), 1)
    image.set_sform(np.diag([3.0, 3, 3, 1]), 2)
    nib.save(image, tmp_path / "a.nii")

    assert open_volume(tmp_path / "a.nii").geometry.spacing == (3, 3, 3)
    assert open_volume(patched(tmp_path / "a.nii", sform_code=0)).geometry.spacing == (2, 2, 2)
    nothing = open_volume(patched(tmp_path / "a.nii", qform_code=0, pixdim=[0, -1, 2, 3, 0, 0, 0, 0]))
    assert nothing.geometry.spacing == (3, 2, 1)
    assert nothing.geometry.direction == ((0, 0, 1), (0, 1, 0), (1, 0, 0))  # as ITK has it
    assert "no orientation" in nothing.notes[0]


@pytest.mark.parametrize("sign", [0, 1, -1])
def test_the_sign_of_a_qform_is_that_of_the_standard(tmp_path, voxels, sign):
    path = save(tmp_path / "a.nii", voxels, np.diag([1.0, 2, 3, 1]))
    path = patched(path, sform_code=0, qform_code=1, pixdim=[sign, 1, 2, 3, 0, 0, 0, 0])
    assert open_volume(path).geometry.direction[0] == (0, 0, -1 if sign < 0 else 1)


def test_sheared_affines_are_kept(tmp_path, voxels):
    affine = np.array([[1.0, 0.4, 0, 5], [0, 2, 0, 6], [0, 0.1, 3, 7], [0, 0, 0, 1]])
    assert check_as_nibabel(save(tmp_path / "a.nii", voxels, affine)).geometry.is_sheared


@pytest.mark.parametrize(("code", "factor"), [(0, 1), (1, 1000), (2, 1), (3, 0.001), (2 + 8, 1)])
def test_sizes_are_in_millimetres_whatever_the_unit(tmp_path, voxels, code, factor):
    path = save(tmp_path / "a.nii", voxels, np.diag([1.0, 2, 3, 1]), xyzt_units=code)
    assert open_volume(path).geometry.spacing == pytest.approx((3 * factor, 2 * factor, factor))


@pytest.mark.parametrize(
    ("shape", "size", "num_channels"),
    [
        ((5, 4), (1, 4, 5), 1),
        ((5,), (1, 1, 5), 1),
        ((5, 4, 3, 1), (3, 4, 5), 1),
        ((5, 4, 3, 1, 1), (3, 4, 5), 1),
        ((5, 4, 3, 2), (3, 4, 5), 2),
        ((5, 4, 3, 1, 2), (3, 4, 5), 2),
        ((5, 4, 1, 2), (1, 4, 5), 2),
    ],
)
def test_further_axes_are_channels_and_those_of_length_1_none(tmp_path, rng, shape, size, num_channels):
    path = save(tmp_path / "a.nii", rng.integers(0, 9, shape, dtype=np.int16))
    volume = check_as_nibabel(path)
    assert (volume.geometry.size, volume.num_channels) == (size, num_channels)
    assert open_volume(path, num_channels=num_channels).num_channels == num_channels


def test_a_slice_without_thickness_is_1_mm_thick(tmp_path, rng):
    path = save(tmp_path / "a.nii", rng.integers(0, 9, (5, 4), dtype=np.int16))
    path = patched(path, sform_code=0, qform_code=1, pixdim=[1, 0.5, 0.7, 0, 0, 0, 0, 0])
    assert open_volume(path).geometry.spacing == pytest.approx((1, 0.7, 0.5))


def test_a_time_series_is_refused_where_one_channel_is_wanted(tmp_path):
    path = save(tmp_path / "a.nii", np.zeros((5, 4, 3, 20), np.int16))
    with pytest.raises(DataError, match=r"a\.nii: is 4D \(5 x 4 x 3 x 20\), which makes 20 channels.*takes 1"):
        open_volume(path, num_channels=1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dim": [5, 5, 4, 3, 2, 2, 1, 1]}, r"has 5 axes \(5 x 4 x 3 x 2 x 2\)"),
        ({"dim": [3, 5, 0, 3, 1, 1, 1, 1]}, "has no voxels"),
        ({"dim": [3, 5, -4, 3, 1, 1, 1, 1]}, "has no voxels"),
        ({"dim": [0, 1, 1, 1, 1, 1, 1, 1]}, "has no voxels"),
        ({"datatype": 4321}, "damaged header"),
        ({"datatype": 128}, "colours of type RGB"),
        ({"datatype": 32}, "values of type complex64"),
        ({"srow_x": [0, 0, 0, 0]}, "its sform does not place the voxels"),
        ({"srow_x": [np.nan, 0, 0, 0]}, "its sform does not place the voxels"),
        ({"srow_x": [0, 1.5, 0, 0], "srow_y": [0, 1.5, 0, 0]}, "its sform does not place the voxels"),
        ({"sform_code": 0, "qform_code": 1, "quatern_b": 3.0}, "its qform does not place the voxels"),
        ({"sform_code": 0, "qform_code": 0, "pixdim": [1, 0, 1, 1, 1, 1, 1, 1]}, "its size of voxels does not"),
        ({"magic": b"ni1"}, "pair of files"),
        ({"scl_slope": 2, "scl_inter": np.inf}, "damaged header"),
        ({"vox_offset": np.nan}, "damaged header"),
        ({"dim": [3, 5, 4, 300, 1, 1, 1, 1]}, r"cut off; 472 of 12352 bytes"),
    ],
)
def test_a_header_that_is_no_volume_is_refused_with_the_reason(tmp_path, voxels, fields, message):
    path = patched(save(tmp_path / "a.nii", voxels), **fields)
    with pytest.raises(DataError, match=message) as caught:
        open_volume(path)
    assert str(path) in str(caught.value)
    assert caught.value.hint


def test_compressed_files_that_are_damaged_are_told_of(tmp_path, voxels):
    path = save(tmp_path / "a.nii.gz", voxels)
    content = path.read_bytes()
    for damaged in (content[:-20], content[:30], content[:-6] + b"??" + content[-4:], content[:12] + b"?" * 50):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"a\.nii\.gz: "):
            open_volume(path).read()


def test_compressed_files_in_several_pieces_or_with_more_behind_are_read(tmp_path, voxels):
    path = save(tmp_path / "a.nii", voxels)
    content, expected = path.read_bytes(), open_volume(path).read()
    path.write_bytes(gzip.compress(content[:400]) + gzip.compress(content[400:]))
    np.testing.assert_array_equal(open_volume(path).read(), expected)
    path.write_bytes(gzip.compress(content + b"more"))
    np.testing.assert_array_equal(open_volume(path).read(), expected)


def test_voxels_may_begin_anywhere(tmp_path, voxels):
    path = save(tmp_path / "a.nii", voxels)
    expected = open_volume(path).read()
    path = patched(path, vox_offset=357)
    path.write_bytes(path.read_bytes()[:352] + bytes(5) + path.read_bytes()[352:])
    np.testing.assert_array_equal(open_volume(path).read(), expected)
    path.write_bytes(gzip.compress(path.read_bytes()))
    np.testing.assert_array_equal(open_volume(path).read(), expected)


def test_opening_reads_the_header_only_and_prints_nothing(tmp_path, voxels, capfd):
    path = save(tmp_path / "a.nii.gz", voxels)
    open_volume(path)
    path.write_bytes(path.read_bytes()[:-10])
    open_volume(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("pattern", ["odd/*.ni*", "ct_totalseg/*", "mri_spine_3channel/*"])
def test_published_files_read_as_nibabel_reads_them(real_data, pattern):
    paths = sorted(real_data.glob(pattern))
    assert len(paths) > 4
    for path in paths:
        if path.name == "rgb_test_file.nii.gz":
            with pytest.raises(DataError, match="colours of type RGB"):
                open_volume(path)
        else:
            check_as_nibabel(path)


def test_hippocampus_volumes_read_as_nibabel_reads_them(real_data):
    paths = sorted(real_data.glob("msd_task04_hippocampus/*Tr/*.nii.gz"))
    for path in paths[::20]:
        check_as_nibabel(path)
    assert {open_volume(path).num_channels for path in paths} == {1}
