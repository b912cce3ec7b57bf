-- Reads secrets in turn, and prints the counts of wrk as one line of JSON.

local requests = {}
local last = 0

function init()
  wrk.method = "POST"
  wrk.headers["x-functions-key"] = os.getenv("KEY")
  wrk.headers["content-type"] = "application/json"
  for name in string.gmatch(os.getenv("SECRETS"), "%S+") do
    table.insert(requests, wrk.format(nil, nil, nil, '{"Secret":"' .. name .. '"}'))
  end
end

function request()
  last = last % #requests + 1
  return requests[last]
end

function done(summary, latency)
  local errors = summary.errors
  local bad = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format(
    '{"requests":%d,"duration_us":%d,"median_us":%d,"p99_us":%d,"bad":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), bad))
end
