-- What limits.py does with its ledger, for several requests at a time and by this server's clock.
--
-- KEYS: the gateways' leases, then one hash for each scope.
-- ARGV[1], JSON: `holder`, whose places are meant; `lease`, in seconds; `limits`, for each scope
-- requests a minute, tokens a minute and places, 0 for none; `spent`, for each scope tokens, and
-- places that are given back; `wanted`, for each request the numbers of its scopes.
-- Returns, for each request and each of its scopes, what was used before: requests, tokens, places.

local TOLERANCE = 1e-6
local LONGEST_REQUEST_MS = 86400000
-- no debt is remembered for longer: 30 days
local LONGEST_MS = 30 * 86400000

local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local ask = cjson.decode(ARGV[1])

local alive = {}
redis.call('HSET', KEYS[1], ask.holder, string.format('%.6f', now + ask.lease))
redis.call('PEXPIRE', KEYS[1], string.format('%d', 2000 * ask.lease))
local leases = redis.call('HGETALL', KEYS[1])
for at = 1, #leases, 2 do
  alive[leases[at]] = tonumber(leases[at + 1]) > now
  if not alive[leases[at]] then redis.call('HDEL', KEYS[1], leases[at]) end
end

local function leaked(used, limit, seconds)
  return limit > 0 and math.max(0, used - limit * seconds / 60) or 0
end

local function read(key, limits)
  local meter = {requests = 0, tokens = 0, at = now, own = 0, others = 0, gone = {}}
  local fields = redis.call('HGETALL', key)
  for at = 1, #fields, 2 do
    local name, value = fields[at], tonumber(fields[at + 1])
    if meter[name] then meter[name] = value
    elseif name == ask.holder then meter.own = value
    elseif alive[name] then meter.others = meter.others + value
    else table.insert(meter.gone, name) end
  end
  -- another server may have taken over, whose clock is behind
  local seconds = math.max(0, now - meter.at)
  meter.requests = leaked(meter.requests, limits[1], seconds)
  meter.tokens = leaked(meter.tokens, limits[2], seconds)
  return meter
end

local function fits(used, limit)
  return limit == 0 or used + 1 <= limit + TOLERANCE
end

local function has_room(meter, limits)
  return fits(meter.requests, limits[1]) and fits(meter.tokens, limits[2])
    and fits(meter.own + meter.others, limits[3])
end

local function number(value)
  return string.format('%.17g', value)
end

local function write(key, meter, limits)
  if #meter.gone > 0 then redis.call('HDEL', key, unpack(meter.gone)) end
  redis.call('HSET', key, 'requests', number(meter.requests), 'tokens', number(meter.tokens),
    'at', number(now), ask.holder, meter.own)
  if meter.own == 0 then redis.call('HDEL', key, ask.holder) end
  local minutes = 0
  if limits[1] > 0 then minutes = meter.requests / limits[1] end
  if limits[2] > 0 then minutes = math.max(minutes, meter.tokens / limits[2]) end
  local milliseconds = 1 + math.ceil(math.min(60000 * minutes, LONGEST_MS))
  if meter.own + meter.others > 0 then
    milliseconds = math.max(milliseconds, LONGEST_REQUEST_MS)
  end
  -- as it is, a large number becomes 1e+16, which ends the script after it has written
  redis.call('PEXPIRE', key, string.format('%d', milliseconds))
end

local meters = {}
for at, limits in ipairs(ask.limits) do
  meters[at] = read(KEYS[at + 1], limits)
  meters[at].tokens = meters[at].tokens + ask.spent[at][1]
  meters[at].own = math.max(0, meters[at].own - ask.spent[at][2])
end

local said = {}
for _, scopes in ipairs(ask.wanted) do
  local admitted = true
  for _, at in ipairs(scopes) do
    local meter = meters[at]
    admitted = admitted and has_room(meter, ask.limits[at])
    table.insert(said, number(meter.requests))
    table.insert(said, number(meter.tokens))
    table.insert(said, meter.own + meter.others)
  end
  if admitted then
    for _, at in ipairs(scopes) do
      meters[at].requests = meters[at].requests + 1
      meters[at].own = meters[at].own + 1
    end
  end
end

for at, limits in ipairs(ask.limits) do
  write(KEYS[at + 1], meters[at], limits)
end
return said
