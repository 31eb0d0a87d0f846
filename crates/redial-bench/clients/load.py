"""So many requests from so many tasks, for clients in Python: prints what the bench prints."""

import asyncio
import resource
import sys
import time


def main(run):
    """Runs `run(url, ask_all)`; `ask_all` takes an async function that sends one request."""
    port, path, tasks, requests = sys.argv[1:]
    url, tasks, requests = f"http://127.0.0.1:{port}{path}", int(tasks), int(requests)
    latencies, well = [], 0

    async def ask_all(ask):
        left = requests
        # What is made once is no cost of a request.
        await ask()

        async def work():
            nonlocal left, well
            while left:
                left -= 1
                began = time.perf_counter()
                is_well = await ask()
                well += is_well
                latencies.append(time.perf_counter() - began)

        before, began = cpu(), time.perf_counter()
        await asyncio.gather(*(work() for _ in range(tasks)))
        took, used = time.perf_counter() - began, cpu() - before
        latencies.sort()
        at = [latencies[len(latencies) * share // 100] * 1e6 for share in (50, 99)]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(
            f"{requests / took:.0f}\t{used / requests * 1e5:.3f}\t{at[0]:.0f}\t{at[1]:.0f}"
            f"\t{peak}\t{well / requests:.4f}"
        )

    asyncio.run(run(url, ask_all))


def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
