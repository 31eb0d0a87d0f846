"""httpx, as its documentation shows it: one client, which keeps connections."""

import httpx

from load import main


async def run(url, ask_all):
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=120) as client:

        async def ask():
            answer = await client.get(url)
            return answer.status_code < 400

        await ask_all(ask)


main(run)
