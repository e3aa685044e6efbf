"""The steps of a task record, each one atomic in Redis (Lua), by Redis' own clock.

A record is a hash `task:<id>`; `tasks:open` holds what is not final, by the time at which it must be looked at;
`tasks:of:<user>` holds a user's tasks by the time of their creation. `passed` holds, for each queue, when the newest
message that has come out of it was sent. A task that is done in steps `rest`s between them until that time, its `state`
in the record; what it `awaits` meanwhile is a topic: `awaited` holds the topics, `awaited:<topic>` the tasks. One that was
cancelled or given up is final for everybody, but `cleaning` until its last step is done. That a task is pending no more is
published, by its id, on the channel `settled:<user>`.
"""

from schemas.task import FINAL_CODES, SETTLED_CODES, Status

_NOW = """
local function clock() local t = redis.call('TIME') return tonumber(t[1]) + tonumber(t[2]) / 1000000 end
local function text(number) return string.format('%.6f', number) end
local final = {{ {final} }}
local settled = {{ {settled} }}
local now = clock()
local function tell(user, id, before, status)
  if settled[status] and status ~= before then redis.pcall('PUBLISH', 'settled:' .. (user or ''), id) end
end
local function stop_waiting(task, id)
  local topic = redis.call('HGET', task, 'awaits') or ''
  redis.call('HDEL', task, 'awaits')
  if topic == '' then return end
  redis.call('SREM', 'awaited:' .. topic, id)
  if redis.call('EXISTS', 'awaited:' .. topic) == 0 then redis.call('SREM', 'awaited', topic) end
end
local function clean_from(task, open, id, moment)
  redis.call('HINCRBY', task, 'attempt', 1)
  redis.call('HSET', task, 'cleaning', 1, 'holder', '', 'lease', 0, 'accepted', 0, 'rest', text(moment))
  redis.call('ZADD', open, text(moment), id)
  stop_waiting(task, id)
end
""".format(
    final=", ".join(f"['{code}'] = true" for code in FINAL_CODES),
    settled=", ".join(f"['{code}'] = true" for code in SETTLED_CODES),
)

# What counts against a user's limits: `limits:tasks:<user>` holds the bytes that each task stages. What has ended is dropped when it
# is in the way, so that no other step needs to know of it; what was downloaded counts until its record goes, or it is invalidated.
_TAKEN = (
    _NOW
    + f"""
local function taken(held, but)
  local open, bytes, all = 0, 0, redis.call('HGETALL', held)
  for at = 1, #all, 2 do
    local status = redis.call('HGET', 'task:' .. all[at], 'status')
    local ended = not status or final[status]
    if ended and (status ~= '{Status.STAGED_OUT}' or all[at + 1] == '0') then
      redis.call('HDEL', held, all[at])
    elseif all[at] ~= but then
      if not ended then open = open + 1 end
      bytes = bytes + tonumber(all[at + 1])
    end
  end
  return open, bytes
end
"""
)

CREATE = (
    _TAKEN
    + """
local task, index, open, held = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id, lifetime, patience = ARGV[1], ARGV[2], tonumber(ARGV[3])
local most, staged, most_staged = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
if staged >= 0 or redis.call('HLEN', held) >= most then
  local count, bytes = taken(held)
  if count >= most then return 'tasks' end
  if staged >= 0 and (bytes >= most_staged or bytes + staged > most_staged) then return 'staged' end
end
redis.call('HSET', held, id, string.format('%.0f', math.max(0, staged)))
redis.call('HSET', task, 'attempt', 1, 'accepted', 0, 'holder', '', 'lease', 0, 'sent', text(now), 'confirmed', 0,
           'created', text(now), 'updated', text(now), unpack(ARGV, 7))
redis.call('EXPIRE', task, lifetime)
local kept = math.max(2 * tonumber(lifetime), redis.call('TTL', index))
redis.call('EXPIRE', held, math.max(tonumber(lifetime), redis.call('TTL', held)))
redis.call('ZREMRANGEBYSCORE', index, '-inf', text(now - kept))
redis.call('ZADD', index, text(now), id)
redis.call('EXPIRE', index, kept)
redis.call('ZADD', open, text(now + patience), id)
return text(now)
"""
)

# What a transfer turns out to stage; how much it may.
STAGE = (
    _TAKEN
    + """
local held, id, bytes, most = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local _, others = taken(held, id)
if others + bytes > most then return 0 end
if redis.call('HEXISTS', held, id) == 1 then redis.call('HSET', held, id, string.format('%.0f', bytes)) end
return 1
"""
)

STAGEABLE = (
    _TAKEN
    + """
local _, others = taken(KEYS[1], ARGV[1])
return math.max(0, tonumber(ARGV[2]) - others)
"""
)

CONFIRM = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'confirmed', 1)
return 1
"""

ACCEPT = (
    _NOW
    + """
local task, open = KEYS[1], KEYS[2]
local id, attempt, holder, lease = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local status, current, held_by, held_until, steps, cleaning = unpack(redis.call('HMGET', task,
  'status', 'attempt', 'holder', 'lease', 'steps', 'cleaning'))
if not status or (final[status] and cleaning ~= '1') or current ~= attempt then return 0 end
if held_by == holder then return 1 end
if held_by ~= '' and tonumber(held_until) > now then return 0 end
redis.call('HINCRBY', task, 'accepted', 1)
redis.call('HSET', task, 'holder', holder, 'lease', text(now + lease), 'confirmed', 1, 'put_off', 0)
if steps ~= '1' and status < ARGV[5] then redis.call('HSET', task, 'status', ARGV[5], 'data', ARGV[6], 'updated', text(now)) end
redis.call('ZADD', open, text(now + lease), id)
return 1
"""
)

RENEW = (
    _NOW
    + """
local task, open = KEYS[1], KEYS[2]
local id, attempt, holder, lease = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local status, current, held_by, cleaning = unpack(redis.call('HMGET', task, 'status', 'attempt', 'holder', 'cleaning'))
if not status or (final[status] and cleaning ~= '1') or current ~= attempt or held_by ~= holder then return 0 end
redis.call('HSET', task, 'lease', text(now + lease))
redis.call('ZADD', open, text(now + lease), id)
return 1
"""
)

ADVANCE = (
    _NOW
    + """
local task, open = KEYS[1], KEYS[2]
local id, attempt, holder, status, data, state = unpack(ARGV)
local before, current, held_by, cleaning, lifetime, user = unpack(redis.call('HMGET', task,
  'status', 'attempt', 'holder', 'cleaning', 'lifetime', 'user'))
if not before or current ~= attempt or held_by ~= holder then return 0 end
if cleaning ~= '1' then
  if final[before] or status < before then return 0 end
  redis.call('HSET', task, 'status', status, 'data', data, 'updated', text(now))
  tell(user, id, before, status)
end
if state ~= '' then redis.call('HSET', task, 'state', state) end
redis.call('EXPIRE', task, lifetime)
if final[status] then
  redis.call('HDEL', task, 'message', 'state', 'cleaning')
  redis.call('ZREM', open, id)
end
return 1
"""
)

# The next step is another attempt, sent when the rest is over; that this one came to its end is why none was lost.
REST = (
    _NOW
    + """
local task, open = KEYS[1], KEYS[2]
local id, attempt, holder, status, data, state, seconds, topic = unpack(ARGV)
local before, current, held_by, cleaning, lifetime, user = unpack(redis.call('HMGET', task,
  'status', 'attempt', 'holder', 'cleaning', 'lifetime', 'user'))
if not before or current ~= attempt or held_by ~= holder then return 0 end
if cleaning ~= '1' then
  if final[before] or final[status] or status < before then return 0 end
  redis.call('HSET', task, 'status', status, 'data', data, 'updated', text(now), 'awaits', topic)
  tell(user, id, before, status)
  if topic ~= '' then redis.call('SADD', 'awaited', topic) redis.call('SADD', 'awaited:' .. topic, id) end
end
redis.call('HSET', task, 'state', state, 'attempt', tonumber(attempt) + 1, 'holder', '', 'lease', 0, 'accepted', 0,
           'rest', text(now + seconds))
redis.call('EXPIRE', task, math.ceil(lifetime + seconds))
redis.call('ZADD', open, text(now + seconds), id)
return 1
"""
)

WAKE = (
    _NOW
    + """
local task, open = KEYS[1], KEYS[2]
local topic, rest = unpack(redis.call('HMGET', task, 'awaits', 'rest'))
if (topic or '') == '' or (rest or '') == '' then return 0 end
redis.call('HSET', task, 'rest', text(now))
redis.call('ZADD', open, text(now), ARGV[1])
stop_waiting(task, ARGV[1])
return 1
"""
)

# Whoever has accepted it may have begun, even if their lease has lapsed since. A step that is under way comes to its end, or
# to that of its lease; what it leaves is cleaned after that.
CANCEL = (
    _NOW
    + """
local task, open = KEYS[1], KEYS[2]
local id, status, data, lifetime = unpack(ARGV)
local before, accepted, stoppable, steps, state, holder, lease, user = unpack(redis.call('HMGET', task,
  'status', 'accepted', 'stoppable', 'steps', 'state', 'holder', 'lease', 'user'))
if not before then return 'gone' end
if final[before] then return 'ended' end
if accepted ~= '0' and stoppable ~= '1' then return 'started' end
redis.call('HSET', task, 'status', status, 'data', data, 'updated', text(now))
tell(user, id, before, status)
redis.call('EXPIRE', task, lifetime)
if steps == '1' and (accepted ~= '0' or state) then
  clean_from(task, open, id, math.max(now, tonumber(lease)))
  redis.call('HSET', task, 'leaving', holder)
else
  redis.call('HDEL', task, 'message')
  redis.call('ZREM', open, id)
end
return 'cancelled'
"""
)

LEAVE = (
    _NOW
    + """
local task, open = KEYS[1], KEYS[2]
if redis.call('HGET', task, 'leaving') ~= ARGV[2] then return 0 end
redis.call('HSET', task, 'leaving', '', 'rest', text(now))
redis.call('ZADD', open, text(now), ARGV[1])
return 1
"""
)

# Its turn has not come: another attempt is due later, ever later, up to five seconds.
PUT_OFF = (
    _NOW
    + """
local task, open = KEYS[1], KEYS[2]
local id, attempt = ARGV[1], ARGV[2]
local status, current, held_by, held_until, cleaning = unpack(redis.call('HMGET', task, 'status', 'attempt', 'holder', 'lease', 'cleaning'))
if not status or (final[status] and cleaning ~= '1') or current ~= attempt then return 0 end
if held_by ~= '' and tonumber(held_until) > now then return 0 end
local pause = math.min(5, 0.25 * 2 ^ redis.call('HINCRBY', task, 'put_off', 1))
redis.call('HSET', task, 'attempt', tonumber(attempt) + 1, 'holder', '', 'lease', 0, 'confirmed', 1, 'rest', text(now + pause))
redis.call('ZADD', open, text(now + pause), id)
return 1
"""
)

# A task that somebody has taken stays: its message had been sent after all.
DISCARD = """
local status, holder = unpack(redis.call('HMGET', KEYS[1], 'status', 'holder'))
if status and (holder ~= '' or status ~= ARGV[2]) then return 0 end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
return 1
"""

FAILING = """
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'failing', ARGV[1]) end
return 1
"""

# What is due is one of: gone · held (not yet lapsed, or at rest) · rested (its next step is to be sent) · waiting in its
# queue · never confirmed, and not in its queue · lost (to be sent again) · taken so often, and lost each time, that it is
# given up.
RECLAIM = (
    _NOW
    + """
local task, open, passed, index = KEYS[1], KEYS[2], KEYS[3], ARGV[6]
local id, attempts, patience, refused, failed = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]
local status, attempt, holder, lease, sent, confirmed, queue, accepted, user, failing = unpack(redis.call('HMGET', task,
  'status', 'attempt', 'holder', 'lease', 'sent', 'confirmed', 'service', 'accepted', 'user', 'failing'))
local rest, steps, cleaning = unpack(redis.call('HMGET', task, 'rest', 'steps', 'cleaning'))
if not status or not sent or (final[status] and cleaning ~= '1') then
  redis.call('ZREM', open, id)
  return 'gone'
end
if (rest or '') ~= '' then
  if tonumber(rest) > now then
    redis.call('ZADD', open, rest, id)
    return 'held'
  end
  redis.call('HSET', task, 'rest', '', 'leaving', '', 'sent', text(now))
  redis.call('ZADD', open, text(now + patience), id)
  stop_waiting(task, id)
  return 'rested'
end
if holder ~= '' and tonumber(lease) > now then
  redis.call('ZADD', open, lease, id)
  return 'held'
end
local through = tonumber(redis.call('HGET', passed, queue) or 0)
if holder == '' and through <= tonumber(sent) then
  redis.call('ZADD', open, text(now + patience), id)
  return 'waiting'
end
if holder == '' and confirmed == '0' then
  redis.call('DEL', task)
  redis.call('ZREM', open, id)
  redis.call('ZREM', index .. user, id)
  return 'unconfirmed'
end
if tonumber(accepted) >= attempts then
  if cleaning ~= '1' then
    redis.call('HSET', task, 'status', refused, 'data', failing or failed, 'updated', text(now))
    tell(user, id, status, refused)
  end
  if steps == '1' and cleaning ~= '1' then
    clean_from(task, open, id, now)
    return 'abandoned'
  end
  redis.call('HSET', task, 'holder', '', 'cleaning', 0)
  redis.call('HDEL', task, 'message')
  redis.call('ZREM', open, id)
  return 'abandoned'
end
redis.call('HSET', task, 'attempt', tonumber(attempt) + 1, 'holder', '', 'lease', 0, 'sent', text(now))
redis.call('ZADD', open, text(now + patience), id)
return 'lost'
"""
)

PASSED = """
if ARGV[2] > (redis.call('HGET', KEYS[1], ARGV[1]) or '') then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
return 1
"""
