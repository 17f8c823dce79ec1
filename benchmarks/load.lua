-- wrk's script: requests of one size from a file, in turn, and what came back as a line of JSON.
--
-- arguments  file, bytes of a request, number of the first, how many until it begins again

local file, size, first, count
local nth = 0

function init(args)
   file = assert(io.open(args[1], "rb"))
   size, first, count = tonumber(args[2]), tonumber(args[3]), tonumber(args[4])
   file:seek("set", first * size)
end

function request()
   if nth == count then
      file:seek("set", first * size)
      nth = 0
   end
   nth = nth + 1
   return file:read(size)
end

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '\n{"seconds": %.6f, "answers": %d, "refused": %d, "broken": %d, "p50": %.3f, "p99": %.3f, "max": %.3f}\n',
      summary.duration / 1e6, summary.requests, errors.status,
      errors.connect + errors.read + errors.write + errors.timeout,
      latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3))
end
