// So many requests from so many tasks, for clients in Node: prints what the bench prints.

const [port, path, tasks, requests] = process.argv.slice(2);

export const url = `http://127.0.0.1:${port}${path}`;

/** Sends all requests with `ask`, which tells whether an answer was well. */
export async function askAll(ask) {
  // What is made once is no cost of a request.
  await ask();
  const latencies = [];
  let [left, well] = [Number(requests), 0];
  const work = async () => {
    while (left > 0) {
      left -= 1;
      const began = performance.now();
      const isWell = await ask();
      well += isWell ? 1 : 0;
      latencies.push(performance.now() - began);
    }
  };
  const before = process.cpuUsage();
  const began = performance.now();
  await Promise.all(Array.from({ length: Number(tasks) }, work));
  const took = (performance.now() - began) / 1e3;
  const { user, system } = process.cpuUsage(before);
  latencies.sort((a, b) => a - b);
  const at = (share) => (latencies[Math.floor((latencies.length * share) / 100)] * 1e3).toFixed(0);
  const cpu = ((user + system) / 1e6 / requests) * 1e5;
  const peak = process.resourceUsage().maxRSS;
  console.log([(requests / took).toFixed(0), cpu.toFixed(3), at(50), at(99), peak, (well / requests).toFixed(4)].join("\t"));
  process.exit(0);
}
