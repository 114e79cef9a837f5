from __future__ import annotations

import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from unetcli.data.formats.dicom import holds_dicom
from unetcli.data.formats.volumes import find_volumes, open_volume
from unetcli.errors import DataError

TILTED = (1, 0, 0, 0, 0.8, -0.6)


def write_slice(path, pixels, position, orientation=(1, 0, 0, 0, 1, 0), series="1.2.3", **tags):
    image = sitk.GetImageFromArray(pixels)
    image.SetSpacing((0.5, 0.7))
    values = {
        "0020|000e": series,
        "0020|000d": "1.2",
        "0008|0060": "CT",
        "0020|0032": "\\".join(map(str, position)),
        "0020|0037": "\\".join(map(str, orientation)),
        **{name.replace("_", "|"): value for name, value in tags.items()},
    }
    for name, value in values.items():
        image.SetMetaData(name, value)
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(path))
    writer.Execute(image)


@pytest.fixture
def voxels(rng):
    return rng.integers(-1000, 1000, (6, 4, 5), dtype=np.int16)


@pytest.fixture
def series(tmp_path, voxels):
    """A function that writes a series with slices at these positions, under names in the other order."""

    def write(positions, name="肺", **options):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for index, (pixels, position) in enumerate(zip(voxels, positions, strict=False)):
            write_slice(folder / f"{options.get('series', '')}{9 - index}.dcm", pixels, position, **options)
        return folder

    return write


def upright(heights):
    return [(10, 20, height) for height in heights]


def test_slices_are_put_in_order_by_their_positions(series, voxels):
    folder = series(upright([3, 5, 7, 9, 11, 13]))
    volume = open_volume(folder)
    assert (volume.format, volume.path, volume.num_channels, volume.dtype) == ("dicom", folder, 1, np.int16)
    assert volume.geometry.size == (6, 4, 5)
    assert volume.geometry.spacing == pytest.approx((2, 0.7, 0.5))
    assert volume.geometry.origin == (10, 20, 3)
    assert volume.geometry.direction == ((0, 0, 1), (0, 1, 0), (1, 0, 0))
    np.testing.assert_array_equal(volume.read()[0], voxels)
    assert volume.read().flags.c_contiguous
    with pytest.raises(DataError, match="has 1 channel, but the network takes 3"):
        open_volume(folder, num_channels=3)


def test_slices_from_head_to_foot_are_put_from_foot_to_head(series, voxels):
    volume = open_volume(series(upright([13, 11, 9, 7, 5, 3])))
    np.testing.assert_array_equal(volume.read()[0], voxels[::-1])
    assert volume.geometry.origin == (10, 20, 3)


def test_a_tilted_gantry_gives_the_sheared_grid_that_it_is(series, voxels):
    positions = upright([3, 5, 7, 9, 11, 13])
    volume = open_volume(series(positions, orientation=TILTED))
    assert volume.geometry.is_sheared
    for index, position in enumerate(positions):
        np.testing.assert_allclose((volume.geometry.affine @ (index, 0, 0, 1))[:3], position, atol=1e-9)
    np.testing.assert_allclose(
        volume.geometry.affine @ (2, 3, 4, 1), (10 + 4 * 0.5, 20 + 3 * 0.7 * 0.8, 7 - 3 * 0.7 * 0.6, 1)
    )
    np.testing.assert_array_equal(volume.read()[0], voxels)


def test_positions_that_were_rounded_are_still_a_grid(series):
    assert open_volume(series(upright([0, 0.6, 1.3, 1.9, 2.5, 3.1]))).geometry.spacing[0] == pytest.approx(0.62)


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        (upright([0, 2, 4, 8, 10, 12]), r"7\.dcm and 6\.dcm lie 4 mm apart, but most others 2 mm, as if 1 slice was"),
        (upright([0, 2, 4, 10, 12, 14]), "lie 6 mm apart, but most others 2 mm, as if 2 slices were missing"),
        (upright([0, 2, 4, 6, 9.4, 12.8]), r"lie 3.4 mm apart, but most others 2 mm$"),
        (upright([0, 2, 4, 4, 6, 8]), r"[67]\.dcm and [67]\.dcm lie in the same place, so the series is of several"),
        ([(0, 0, 0), (0, 0, 2), (5, 0, 4), (0, 0, 6)], "do not lie on a straight line"),
    ],
)
def test_slices_on_no_grid_are_refused_and_the_gap_named(series, positions, message):
    folder = series(positions)
    with pytest.raises(DataError, match=message) as caught:
        open_volume(folder)
    assert str(folder) in str(caught.value)
    assert caught.value.hint


def test_several_series_are_listed_with_what_tells_them_apart(series):
    folder = series(upright([0, 2, 4]), series="1.5", **{"0008_103e": "thin"})
    series(upright([0, 2, 4, 6]), series="1.6")
    with pytest.raises(DataError, match=r"holds 2 series: 3 files of 'thin'.*4 files of 'no description'") as caught:
        open_volume(folder)
    assert "folder of its own" in caught.value.hint


def test_files_that_are_no_images_are_left_out_or_told_of(series, voxels):
    folder = series(upright([0, 2, 4]))
    write_slice(folder / "seg.dcm", voxels[0], (0, 0, 0), series="1.9", **{"0008_0060": "SEG"})
    assert open_volume(folder).geometry.size == (3, 4, 5)
    with pytest.raises(DataError, match=r"seg\.dcm: is a segmentation, not an image"):
        open_volume(folder / "seg.dcm")
    for path in folder.glob("[0-9]*.dcm"):
        path.unlink()
    with pytest.raises(DataError, match="of DICOM it holds only a segmentation"):
        open_volume(folder)


def test_slices_unlike_the_others_are_refused(series, voxels):
    folder = series(upright([0, 2, 4]))
    write_slice(folder / "x.dcm", voxels[0, :3], (10, 20, 6))
    with pytest.raises(DataError, match=r"x\.dcm is of 5 x 3 px, but .* of 5 x 4"):
        open_volume(folder)
    write_slice(folder / "x.dcm", voxels[0], (10, 20, 6), orientation=(0, 1, 0, 0, 0, 1))
    with pytest.raises(DataError, match=r"dcm is not parallel to .*dcm, as with a localizer"):
        open_volume(folder)


def test_a_file_that_is_cut_off_is_named_and_not_left_out(series, capfd):
    folder = series(upright([0, 2, 4]))
    path = folder / "7.dcm"  # an end of the series, so that no gap would tell
    path.write_bytes(path.read_bytes()[:-15])
    with pytest.raises(DataError, match=r"7\.dcm"):
        open_volume(folder).read()
    with pytest.raises(DataError, match=r"7\.dcm"):
        open_volume(path).read()
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"7\.dcm"):
        open_volume(folder).read()
    assert capfd.readouterr() == ("", "")


def test_scaled_slices_are_floats_and_those_of_whole_numbers_integers(tmp_path, voxels):
    slope_tag = b"\x28\0\x53\x10\2\0\0\0"
    for slope, dtype in ((".5", np.float32), ("2 ", np.int32)):
        folder = tmp_path / slope.strip()
        folder.mkdir()
        for index in range(3):
            path = folder / f"{index}.dcm"
            write_slice(path, voxels[index], (0, 0, index))
            path.write_bytes(path.read_bytes().replace(slope_tag + b"1 ", slope_tag + slope.encode()))
        volume = open_volume(folder)
        assert volume.dtype == volume.read().dtype == dtype
        np.testing.assert_array_equal(volume.read()[0], voxels[:3] * float(slope))


def test_a_single_file_is_a_slice_of_its_thickness(tmp_path, voxels):
    write_slice(tmp_path / "a.dcm", voxels[0], (1, 2, 3), **{"0018_0050": "2.5"})
    volume = open_volume(tmp_path / "a.dcm")
    assert volume.geometry.spacing == pytest.approx((2.5, 0.7, 0.5))
    assert volume.notes == ("it is a single file; name its folder for the whole series",)
    np.testing.assert_array_equal(volume.read()[0], voxels[:1])


def test_series_within_a_folder_are_volumes_of_it(series, tmp_path):
    folders = [series(upright([3, 5, 7]), name) for name in ("a", "b")]
    (tmp_path / "notes").mkdir()

    assert find_volumes([tmp_path]) == folders


def test_a_folder_without_dicom_is_told_of(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    assert not holds_dicom(tmp_path)
    with pytest.raises(DataError, match="holds no DICOM files"):
        open_volume(tmp_path)


@pytest.mark.parametrize("name", ["cip_ct-64_chest", "dcmqi_ct_3slice_liver", "torchio_mr"])
def test_published_series_read_as_simpleitk_reads_them(real_data, name):
    folder = real_data / "ct_chest" / "dicom" / name
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    volume = open_volume(folder)
    array = volume.read()[0]
    expected = sitk.GetArrayFromImage(image)
    np.testing.assert_array_equal(array, expected)
    assert array.dtype == expected.dtype
    for corner in np.ndindex(2, 2, 2):
        z, y, x = (np.array(corner) * (np.array(array.shape) - 1)).tolist()
        world = image.TransformIndexToPhysicalPoint((x, y, z))
        np.testing.assert_allclose((volume.geometry.affine @ (z, y, x, 1))[:3], world, atol=1e-3)


def test_a_published_head_with_two_distances_is_refused_and_its_evenly_spaced_half_is_sheared(real_data, tmp_path):
    folder = real_data / "ct_chest" / "dicom" / "rorden_ct_head_gantry"
    with pytest.raises(DataError, match=r"lie 6\.999 mm apart, but most others 4\.002 mm"):
        open_volume(folder)
    for path in sorted(folder.iterdir())[:14]:
        shutil.copy(path, tmp_path)
    volume = open_volume(tmp_path)
    assert volume.geometry.is_sheared
    assert volume.read().shape == (1, 14, 512, 512)
    step = volume.geometry.affine[:3, 0]
    np.testing.assert_allclose(np.abs(step) @ (0, 0, 1), np.linalg.norm(step), atol=1e-9)  # the table moved along z


def test_published_files_that_are_odd(real_data):
    volume = open_volume(real_data / "odd" / "JPEG2000.dcm")
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(volume.path)))
    np.testing.assert_array_equal(volume.read()[0], expected)
    for path in (real_data / "odd" / "MR_truncated.dcm", real_data / "odd"):
        with pytest.raises(DataError, match=r"MR_truncated\.dcm: cannot be read"):
            open_volume(path).read()
