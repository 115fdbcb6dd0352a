-- A tenant's accounts as one replica reports them, and which of its requests are let in.
--
-- A replica states what it has spent, holds and runs as totals of its own, so that a report that is sent twice,
-- or that follows one which was lost, leaves the accounts right. A replica that has said nothing for longer than
-- the lease is taken for dead, and what it held for spent; should it speak again, that is taken back.
--
-- KEYS  spent today by replica; held by replica, as "AMOUNT CHAINS TIME"
-- ARGV  replica, lease in s, its spent, held, running, the tenant's spend and concurrency ("" without a limit),
--       seconds to keep the accounts, requests as JSON: of each the amounts of its chains
-- returns what all have spent and hold, then "in", "spend" or "concurrency" for each request
local spent_by, held_by, me = KEYS[1], KEYS[2], ARGV[1]
local lease, keep = tonumber(ARGV[2]), tonumber(ARGV[8])
local own, chains = tonumber(ARGV[4]), tonumber(ARGV[5])
local limit, most = tonumber(ARGV[6]), tonumber(ARGV[7])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6

local before = tonumber(redis.call('HGET', spent_by, me) or 0)
if tonumber(ARGV[3]) > before then
  redis.call('HSET', spent_by, me, ARGV[3])
end
redis.call('HDEL', spent_by, 'lost:' .. me)

local held, running = 0, 0
local entries = redis.call('HGETALL', held_by)
for i = 1, #entries, 2 do
  local replica = entries[i]
  local amount, count, heard = string.match(entries[i + 1], '(%S+) (%S+) (%S+)')
  if replica == me then
    -- stated anew below
  elseif now - tonumber(heard) > lease then
    redis.call('HSET', spent_by, 'lost:' .. replica, amount)
    redis.call('HDEL', held_by, replica)
  else
    held, running = held + tonumber(amount), running + tonumber(count)
  end
end

local spent = 0
for _, amount in ipairs(redis.call('HVALS', spent_by)) do
  spent = spent + tonumber(amount)
end

local verdicts = {}
for _, amounts in ipairs(cjson.decode(ARGV[9])) do
  local verdict, taken = 'in', spent + held + own
  if most and running + chains + #amounts > most then
    verdict = 'concurrency'
  end
  for _, amount in ipairs(amounts) do
    if verdict == 'in' and limit and taken >= limit then
      verdict = 'spend'
    end
    taken = taken + amount
  end
  if verdict == 'in' then
    own, chains = taken - spent - held, chains + #amounts
  end
  table.insert(verdicts, verdict)
end

if chains > 0 then
  redis.call('HSET', held_by, me, string.format('%.17g %d %.6f', own, chains, now))
else
  redis.call('HDEL', held_by, me)
end
redis.call('EXPIRE', spent_by, keep)
redis.call('EXPIRE', held_by, keep)
return {string.format('%.17g', spent), string.format('%.17g', held + own), unpack(verdicts)}
