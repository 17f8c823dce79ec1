"""What Starlette and uvicorn take by themselves: a route that reads the body, and nothing else."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


async def receive(request: Request) -> Response:
    """Read the body."""
    await request.body()
    return Response()


app = Starlette(routes=[Route("/{path:path}", receive, methods=["POST"])])
