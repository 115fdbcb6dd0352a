-- Moves the online threshold by the chains that one replica has seen end, in the order in which they arrive here:
-- `Spending.learn` and `OnlineThreshold.update`, with Redis as the one writer for all replicas.
--
-- KEYS  the threshold's state; how many lessons of this replica it has taken
-- ARGV  lessons taken before these, horizon, rate, decay, target, position at the start, seconds to remember,
--       lessons as JSON: [cost, large-only cost] each
-- returns position, count, mean large-only cost, chains that it is the mean of
local first, horizon = tonumber(ARGV[1]), tonumber(ARGV[2])
local rate, decay, target = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local state = redis.call('HMGET', KEYS[1], 'position', 'count', 'alone', 'seen')
local position, count = tonumber(state[1] or ARGV[6]), tonumber(state[2] or 0)
local alone, seen = tonumber(state[3] or 0), tonumber(state[4] or 0)
local taken = tonumber(redis.call('GET', KEYS[2]) or 0)

local lessons = cjson.decode(ARGV[8])
for i, lesson in ipairs(lessons) do
  if first + i > taken then -- else it came before, and the answer was lost
    seen, count = seen + 1, count + 1
    alone = alone + math.max(1 / seen, 1 / horizon) * (lesson[2] - alone)
    position = position + rate * count ^ -decay * (lesson[1] / alone - target)
    position = math.min(math.max(position, 0), 1)
  end
end

local function exact(number)
  return string.format('%.17g', number)
end
if #lessons > 0 then
  redis.call('HSET', KEYS[1], 'position', exact(position), 'count', count, 'alone', exact(alone), 'seen', seen)
  redis.call('SET', KEYS[2], math.max(taken, first + #lessons), 'EX', ARGV[7])
end
return {exact(position), count, exact(alone), seen}
