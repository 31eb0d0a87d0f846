"""aiohttp, as its documentation shows it: one session, which keeps connections."""

import aiohttp

from load import main


async def run(url, ask_all):
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def ask():
            async with session.get(url) as answer:
                await answer.read()
                return answer.status < 400

        await ask_all(ask)


main(run)
