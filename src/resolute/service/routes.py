"""The routes of the API. Each takes a request apart, asks the desk, and answers.

They are made by functions, because FastAPI is only imported to serve.
"""

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

from resolute.service.desk import MOST_HITS, Desk, Query
from resolute.service.fields import item_of, where_of
from resolute.service.meters import CONTENT_TYPE
from resolute.service.problem import Problem
from resolute.service.replies import compare_reply, entry_reply, image_reply, vector_replies
from resolute.service.schemas import (
    AddReply,
    AuditReply,
    CompareReply,
    DeleteReply,
    DeleteRequest,
    EmbedReply,
    ErrorReply,
    GalleryReply,
    ImagesReply,
    SearchReply,
)
from resolute.service.uploads import strict_route

if TYPE_CHECKING:
    from fastapi import APIRouter

_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorReply, "description": text}
    for status, text in (
        (401, "token missing or wrong"), (403, "read only, or of another origin"),
        (404, "no such image"), (409, "key taken, or gallery not as expected"),
        (413, "too large"), (415, "not an accepted content type"),
        (422, "an image or a value that cannot be"), (429, "too many requests"),
        (503, "queue full"),
    )
}  # fmt: skip
_RESOLUTION = "hr, lr or auto: by native height"
_PRIOR = "chance of one person before looking, between 0 and 1; by default the calibration's"
_TIME = "ISO 8601, UTC where no zone is given, or seconds since 1970"


def api_router(desk: Desk) -> "APIRouter":
    """Make all routes of the API.

    Args:
        desk: does the work.

    Returns:
        A router to include.
    """
    from fastapi import APIRouter

    config = desk.config
    router = APIRouter(
        route_class=strict_route(max_files=config.max_images, max_bytes=config.max_bytes),
        responses=_REFUSALS,
    )
    for add in (_add_embed, _add_compare, _add_search, _add_add, _add_delete, _add_reads):
        add(router, desk)
    whole = APIRouter()
    whole.include_router(router, prefix="/v1")
    _add_health(whole, desk)
    return whole


def _add_embed(router: "APIRouter", desk: Desk) -> None:
    from fastapi import File, Form, UploadFile

    @router.post("/embed", summary="Embed images")
    async def embed(
        image: Annotated[list[UploadFile], File(description="one image or several")],
        resolution: Annotated[str, Form(description=_RESOLUTION)] = "auto",
    ) -> EmbedReply:
        embedding = await desk.embed(await desk.decode(await _read(image), resolution))
        return EmbedReply(
            fingerprint=desk.model.fingerprint,
            metric=embedding.metric,
            fusion=embedding.fusion,
            images=await asyncio.to_thread(vector_replies, embedding),
        )


def _add_compare(router: "APIRouter", desk: Desk) -> None:
    from fastapi import File, Form, Request, UploadFile

    @router.post("/compare", summary="Compare two people, each by one image or several")
    async def compare(
        request: Request,
        a: Annotated[list[UploadFile], File(description="images of one person")],
        b: Annotated[list[UploadFile], File(description="images of one person")],
        resolution: Annotated[str, Form(description=_RESOLUTION)] = "auto",
        prior: Annotated[float | None, Form(description=_PRIOR)] = None,
    ) -> CompareReply:
        found = await desk.compare(
            await _read(a), await _read(b), resolution=resolution, prior=prior, who=_who(request)
        )
        return compare_reply(found)


def _add_search(router: "APIRouter", desk: Desk) -> None:
    from fastapi import File, Form, Request, UploadFile

    @router.post("/search", summary="Rank the gallery by distance to one person")
    async def search(
        request: Request,
        image: Annotated[list[UploadFile] | None, File(description="of one person")] = None,
        key: Annotated[list[str] | None, Form(description="or images of the gallery")] = None,
        k: Annotated[int, Form(description=f"candidates wanted, 1 to {MOST_HITS}")] = 20,
        camera: Annotated[list[str] | None, Form(description="only of these")] = None,
        not_camera: Annotated[list[str] | None, Form(description="none of these")] = None,
        start: Annotated[str, Form(description=f"taken then or later: {_TIME}")] = "",
        end: Annotated[str, Form(description=f"taken before: {_TIME}")] = "",
        min_reliability: Annotated[float | None, Form(description="of candidates, 0..1")] = None,
        resolution: Annotated[str, Form(description=_RESOLUTION)] = "auto",
        prior: Annotated[float | None, Form(description=_PRIOR)] = None,
    ) -> SearchReply:
        query = Query(
            files=await _read(image or []),
            keys=key or [],
            k=k,
            where=where_of(camera or [], not_camera or [], start, end, min_reliability),
            resolution=resolution,
            prior=prior,
        )
        return await desk.search(query, who=_who(request))


def _add_add(router: "APIRouter", desk: Desk) -> None:
    from fastapi import File, Form, Request, UploadFile

    @router.post("/add", summary="Store an image", status_code=201)
    async def add(
        request: Request,
        image: Annotated[UploadFile, File(description="a crop of one person")],
        key: Annotated[str, Form(description="its name, unique; better a number than a name")],
        camera: Annotated[str, Form(description="empty where unknown")] = "",
        time: Annotated[str, Form(description=f"when it was taken: {_TIME}")] = "",
        resolution: Annotated[str, Form(description=_RESOLUTION)] = "auto",
        thumbnail: Annotated[bool, Form(description="keep a small picture")] = True,  # noqa: FBT002
    ) -> AddReply:
        number, embedding = await desk.add(
            await image.read(),
            item_of(key, camera, time),
            resolution=resolution,
            with_thumbnail=thumbnail,
            who=_who(request),
        )
        return AddReply(id=number, key=key, image=image_reply(embedding))


def _add_delete(router: "APIRouter", desk: Desk) -> None:
    from fastapi import Request

    @router.post("/delete", summary="Delete images")
    async def delete(request: Request, what: DeleteRequest) -> DeleteReply:
        deleted, purged = await desk.delete(what.keys, with_purge=what.purge, who=_who(request))
        return DeleteReply(num_deleted=deleted, num_purged=purged)


def _add_reads(router: "APIRouter", desk: Desk) -> None:
    from fastapi import Query as Asked
    from fastapi import Response

    gallery = desk.gallery

    @router.get("/images", summary="List images, in the order they were added")
    async def images(
        start: Annotated[int, Asked(ge=0, description="how many to pass over")] = 0,
        limit: Annotated[int, Asked(ge=1, le=1000)] = 60,
        camera: Annotated[list[str] | None, Asked(description="only of these")] = None,
    ) -> ImagesReply:
        where = where_of(camera or [], [], "", "", None)
        page = await asyncio.to_thread(gallery.entries, where=where, start=start, limit=limit + 1)
        return ImagesReply(
            images=[entry_reply(entry) for entry in page[:limit]],
            next=start + limit if len(page) > limit else None,
        )

    @router.get("/thumbnail", summary="The small picture of an image", response_class=Response)
    async def thumbnail(key: Annotated[str, Asked(max_length=1024)]) -> Response:
        picture = await desk.there([key], lambda: gallery.thumbnail(key))
        kind = _kind_of(picture)
        if picture is None or not kind:
            raise Problem(404, "not_found", "no picture is kept of this image")
        return Response(picture, media_type=kind)

    @router.get("/gallery", summary="What the server holds and allows")
    async def stats() -> GalleryReply:
        return await asyncio.to_thread(_gallery_reply, desk)

    @router.get("/audit", summary="Who searched, added and deleted what")
    async def audit(
        start: Annotated[int | None, Asked(ge=0, description="first event; none: the last")] = None,
        limit: Annotated[int, Asked(ge=1, le=1000)] = 100,
    ) -> AuditReply:
        events = await asyncio.to_thread(desk.audit.page, start=start, limit=limit)
        head = desk.audit.head
        return AuditReply(events=events, num_events=head.num, head=head.digest)


def _add_health(router: "APIRouter", desk: Desk) -> None:
    from fastapi import Response

    @router.get("/healthz", summary="Whether the process lives")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/readyz", summary="Whether it can search now", responses={503: _REFUSALS[503]})
    async def readyz() -> dict[str, str]:
        desk.embedder.check_room()
        return {"status": "ready"}

    @router.get("/metrics", summary="Counts for Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(await asyncio.to_thread(desk.meters.text), media_type=CONTENT_TYPE)


def _gallery_reply(desk: Desk) -> GalleryReply:
    stats = desk.gallery.stats()
    calibration = desk.calibration
    return GalleryReply(
        num_images=stats.num_images,
        num_deleted=stats.num_deleted,
        num_bytes=stats.num_bytes,
        cameras=dict(stats.cameras),
        first_time=stats.first_time,
        last_time=stats.last_time,
        retention_days=stats.retention_days,
        audit_days=desk.config.audit_days,
        fingerprint=stats.space.fingerprint,
        metric=stats.space.metric,
        fusion=stats.space.fusion,
        num_streams=stats.space.num_streams,
        calibrated_on=calibration.data if calibration else None,
        is_read_only=desk.config.read_only,
        max_images=desk.config.max_images,
        max_upload_bytes=desk.config.max_bytes,
    )


async def _read(uploads: Any) -> list[bytes]:
    return [await upload.read() for upload in uploads]


def _who(request: Any) -> str:
    who: str = request.state.who
    return who


def _kind_of(picture: bytes | None) -> str:
    # A gallery made elsewhere may hold any bytes as a picture: only these two are sent on.
    if picture is None:
        return ""
    if picture.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    return "image/png" if picture.startswith(b"\x89PNG\r\n\x1a\n") else ""
