"""The tests of the pictures: what is taken, who sees it, and what the worker makes of it."""

# ruff: noqa: PT009 -- Django's own test runner runs these, and explains unittest's assertions only.

import io
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import UUID

from django.core.files.base import ContentFile
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import TestCase, override_settings
from django.urls import reverse
from PIL import Image

from demo.asgi import application
from pictures.forms import MOST_BYTES
from pictures.models import KEPT, Picture
from pictures.resizing import WIDTHS, resize, target
from sealane.exceptions import WebsocketDenied
from sealane.layers import channel_layers
from sealane.testing import WebsocketCommunicator
from sealane.worker import Worker


def jpeg(width: int = 900, height: int = 600, **options: Any) -> bytes:
    """Return a picture as a browser would send it."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(file, "JPEG", **options)
    return file.getvalue()


def bomb() -> bytes:
    """Return a file of some hundred bytes that says it is a picture of 2.5 billion pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


class PicturesTestCase(TestCase):
    """Has a directory of its own, and a layer without what other tests have sent."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.media = Path(directory.name)
        self.enterContext(override_settings(MEDIA_ROOT=directory.name, PICTURES_PAUSE=0))
        channel_layers["default"].sync.flush()

    def upload(self, data: bytes, name: str = "harbour.jpg") -> Any:
        """Send a file as the page's script does."""
        with self.captureOnCommitCallbacks(execute=True):
            return self.client.post(
                reverse("pictures"),
                {"file": SimpleUploadedFile(name, data)},
                headers={"accept": "application/json"},
            )

    @property
    def owner(self) -> UUID:
        return UUID(self.client.session["owner"])


class UploadTests(PicturesTestCase):
    def test_a_picture_becomes_a_job_after_the_commit(self) -> None:
        response = self.upload(jpeg())

        self.assertEqual(response.status_code, 202)
        told = response.json()
        self.assertEqual((told["name"], told["state"], told["sizes"]), ("harbour.jpg", "waiting", {}))
        job = channel_layers["default"].sync.receive("pictures", timeout=5)
        self.assertEqual(job, {"type": "picture.resize", "key": UUID(told["key"])})

    def test_without_a_script_the_page_comes_back(self) -> None:
        file = SimpleUploadedFile("harbour.jpg", jpeg())

        response = self.client.post(reverse("pictures"), {"file": file}, follow=True)

        self.assertContains(response, "harbour.jpg is being resized.")

    def test_what_cannot_be_taken_is_refused_with_a_reason(self) -> None:
        for data, reason in [
            (b"", "This file is empty."),
            (b"no picture", "This is not a picture that can be read here. Send a JPEG, PNG, WebP or GIF."),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "This is not a picture that can be read here."),
            (b"x" * (MOST_BYTES + 1), "The most that is taken here is 10.0"),
            (bomb(), "This picture has more than the 40 million pixels that are taken here."),
        ]:
            with self.subTest(reason):
                response = self.upload(data, "harbour.jpg")

                self.assertEqual(response.status_code, 400)
                self.assertIn(reason, response.json()["errors"]["file"][0])
        self.assertEqual(self.client.post(reverse("pictures")).status_code, 400)
        self.assertEqual(Picture.objects.count(), 0)
        self.assertEqual(list(self.media.iterdir()), [])

    def test_the_name_of_a_file_stays_out_of_the_file_system(self) -> None:
        key = self.upload(jpeg(), "../../<b>évil</b>.jpg").json()["key"]

        files = [path.relative_to(self.media) for path in self.media.rglob("*") if path.is_file()]
        self.assertEqual(files, [Path("pictures") / key / "original"])

    def test_the_last_twelve_are_kept(self) -> None:
        keys = [self.upload(jpeg()).json()["key"] for _ in range(KEPT + 2)]

        self.assertEqual({str(picture.pk) for picture in Picture.objects.all()}, set(keys[2:]))
        self.assertEqual({path.name for path in (self.media / "pictures").iterdir()}, set(keys[2:]))


class PrivacyTests(PicturesTestCase):
    def test_a_picture_is_there_for_its_owner_only(self) -> None:
        key = self.upload(jpeg()).json()["key"]
        picture = Picture.objects.get()
        for _ in resize(picture.directory / "original", picture.directory):
            pass
        address = reverse("picture", args=[key, WIDTHS[0]])
        self.assertEqual(self.client.get(address).status_code, 404)  # it is not said to be done

        Picture.objects.update(state=Picture.State.DONE)

        response = self.client.get(address)
        self.assertEqual((response.status_code, response["Content-Type"]), (200, "image/webp"))
        self.assertEqual(response["Cache-Control"], "private, max-age=3600")
        self.assertEqual(self.client.get(reverse("picture", args=[key, 123])).status_code, 404)
        stranger = self.client_class()
        self.assertEqual(stranger.get(address).status_code, 404)
        self.assertNotContains(stranger.get(reverse("pictures")), key)  # and with a session of one's own
        self.assertEqual(stranger.get(address).status_code, 404)

    async def test_a_socket_needs_a_session(self) -> None:
        with self.assertRaisesMessage(WebsocketDenied, "Open the page first"):
            async with WebsocketCommunicator(application, "/ws/pictures/", headers=ORIGIN):
                pass


ORIGIN = {"origin": "http://testserver"}


class WorkerTests(PicturesTestCase):
    async def resize(self, data: bytes | None) -> tuple[Picture, list[dict[str, Any]]]:
        """Have a worker resize a picture, and return what its owner's window is told meanwhile."""
        await self.async_client.get(reverse("pictures"))
        owner = UUID(await (await self.async_client.asession()).aget("owner"))
        picture = Picture(owner=owner, name="harbour.jpg")
        if data is not None:
            picture.original.save("harbour.jpg", ContentFile(data), save=False)
        await picture.asave()
        cookie = self.async_client.cookies["sessionid"].value
        headers = {**ORIGIN, "cookie": f"sessionid={cookie}"}
        layer = channel_layers["default"]
        told: list[dict[str, Any]] = []
        async with (
            WebsocketCommunicator(application, "/ws/pictures/", headers=headers) as window,
            Worker(application, ["pictures"], layer, ack=True, retry_delay=0),
        ):
            first = await window.receive_json_from()
            self.assertEqual([item["key"] for item in first["pictures"]], [str(picture.pk)])
            await layer.send("pictures", {"type": "picture.resize", "key": picture.pk})
            while not told or told[-1]["state"] not in ("done", "failed"):
                told.append(await window.receive_json_from(timeout=20))
        await picture.arefresh_from_db()
        return picture, told

    async def test_the_window_sees_how_far_it_is(self) -> None:
        picture, told = await self.resize(jpeg())

        self.assertEqual([event["percent"] for event in told], [10, 32, 55, 77, 100, 100])
        self.assertEqual({event["type"] for event in told}, {"picture"})
        self.assertEqual(list(told[-1]["sizes"]), [str(width) for width in WIDTHS])
        for width in WIDTHS:
            with Image.open(target(picture.directory, width)) as made:
                self.assertEqual(made.width, min(width, 900))

    async def test_a_damaged_picture_is_rejected_and_its_owner_told(self) -> None:
        with self.assertLogs("sealane.worker", "ERROR"):
            picture, told = await self.resize(jpeg()[:-2000])

        self.assertEqual(told[-1]["state"], "failed")
        self.assertIn("This picture is damaged", picture.problem)
        dead = await channel_layers["default"].receive("pictures.dead")
        self.assertEqual((dead["reason"], dead["attempts"]), (picture.problem, 1))

    async def test_a_job_that_fails_again_and_again_is_told_in_the_end(self) -> None:
        with self.assertLogs("sealane.worker", "WARNING") as log:
            picture, told = await self.resize(None)

        self.assertEqual(told[-1]["problem"], "It could not be resized, for a reason of ours.")
        self.assertEqual(picture.state, Picture.State.FAILED)
        self.assertIn("goes to the dead letters after delivery 5: FileNotFoundError", log.output[-1])


class ResizingTests(PicturesTestCase):
    def test_a_job_that_was_cut_short_goes_on_where_it_was(self) -> None:
        original = self.media / "original"
        original.write_bytes(jpeg())
        work = resize(original, self.media / "small")
        self.assertEqual([next(work), next(work), next(work)], [10, 32, 55])
        first = target(self.media / "small", WIDTHS[0])
        made_at = first.stat().st_mtime_ns

        # The worker was killed; another one begins.
        self.assertEqual(list(resize(original, self.media / "small")), [55, 77, 100])
        self.assertEqual(first.stat().st_mtime_ns, made_at)
        self.assertEqual(list(resize(original, self.media / "small")), [100])

    def made(self, picture: Image.Image, **options: Any) -> Image.Image:
        """Return the smallest of the pictures that are made of one."""
        picture.save(self.media / "original", **options)
        for _ in resize(self.media / "original", self.media / "small"):
            pass
        return Image.open(target(self.media / "small", WIDTHS[-1]))

    def test_a_camera_held_upright_is_believed_and_the_rest_of_what_it_says_forgotten(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by a quarter
        exif[0x010E] = "taken at home"
        with self.made(Image.new("RGB", (600, 300)), format="JPEG", exif=exif) as made:
            self.assertEqual((made.size, dict(made.getexif())), ((200, 400), {}))

    def test_a_picture_is_not_lost_by_what_its_camera_says_about_it(self) -> None:
        # A width that is no number: Pillow reads it, and cannot write it.
        entries = struct.pack("<HHII", 0x0100, 7, 1, 1) + struct.pack("<HHII", 0x0112, 3, 1, 6)
        exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4)
        with self.made(Image.new("RGB", (600, 300)), format="JPEG", exif=exif) as made:
            self.assertEqual(made.size, (200, 400))

    def test_two_that_make_the_same_picture_do_not_disturb_each_other(self) -> None:
        directory = self.media / "one"
        directory.mkdir()
        (directory / "original").write_bytes(jpeg())
        save = Image.Image.save
        others: list[list[int]] = []

        def save_late(picture: Image.Image, *args: Any, **options: Any) -> None:
            save(picture, *args, **options)
            if not others:
                # Another lane of the same worker, or a worker of another container, is there before it.
                others.append([])
                others[0].extend(resize(directory / "original", directory))

        with mock.patch.object(Image.Image, "save", save_late):
            percents = list(resize(directory / "original", directory))
        self.assertEqual((percents[-1], others[0][-1]), (100, 100))
        self.assertEqual(
            {path.name for path in directory.iterdir()}, {"original", *(f"{width}.webp" for width in WIDTHS)}
        )

    def test_transparency_is_kept(self) -> None:
        with self.made(Image.new("RGBA", (600, 300)), format="PNG") as made:
            self.assertEqual((made.size, made.mode), ((200, 100), "RGBA"))

    def test_nothing_is_made_larger(self) -> None:
        with self.made(Image.new("RGB", (60, 30)), format="PNG") as made:
            self.assertEqual(made.size, (60, 30))
