//! What Redis does with a record, as Lua: a script is atomic, and reads Redis' own clock.
//!
//! A record is a hash: `state` (`held`, `completed` or `free`), `token`, `until` in microseconds since 1970,
//! `print` (the fingerprint), `by` (which call of ours holds it), and, once completed, `status`, `fields` and
//! `body`. Numbers are written with `%.0f`, because Lua would write large ones as powers of ten.

use std::sync::LazyLock;

use redis::Script;

/// Keys: the record. Arguments: fingerprint, lease in µs, how long to keep the record in ms, the call.
///
/// A call that was sent again because its connection broke finds itself as the holder.
pub(super) static BEGIN: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local record = redis.call('HMGET', KEYS[1], 'state', 'until', 'token', 'print', 'by')
local token = now
if record[1] then
  local left = record[2] - now
  if record[1] ~= 'free' and left > 0 then
    if record[4] ~= ARGV[1] then return {'mismatch'} end
    if record[1] == 'completed' then
      local answer = redis.call('HMGET', KEYS[1], 'status', 'fields', 'body')
      return {'completed', answer[1], answer[2], answer[3]}
    end
    if record[5] == ARGV[4] then return {'started', record[3]} end
    return {'held', string.format('%.0f', left)}
  end
  token = math.max(now, record[3] + 1)
end
local number = string.format('%.0f', token)
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'state', 'held', 'token', number,
  'until', string.format('%.0f', now + ARGV[2]), 'print', ARGV[1], 'by', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {'started', number}
",
    )
});

/// Keys: the record. Arguments: token, lease in µs, how long to keep the record in ms.
pub(super) static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local record = redis.call('HMGET', KEYS[1], 'state', 'token')
if record[1] ~= 'held' or record[2] ~= ARGV[1] then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('HSET', KEYS[1], 'until', string.format('%.0f', now + ARGV[2]))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
",
    )
});

/// Keys: the record. Arguments: token, keep in µs, keep in ms, whether this is sent again, status, fields,
/// and the body if there is one.
///
/// Only its holder completes a record, so a completed one with our token was completed by us.
pub(super) static COMPLETE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local record = redis.call('HMGET', KEYS[1], 'state', 'token')
if record[2] ~= ARGV[1] then return 0 end
if record[1] == 'completed' and ARGV[4] == '1' then return 1 end
if record[1] ~= 'held' then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('HSET', KEYS[1], 'state', 'completed',
  'until', string.format('%.0f', now + ARGV[2]), 'status', ARGV[5], 'fields', ARGV[6])
if ARGV[7] then redis.call('HSET', KEYS[1], 'body', ARGV[7]) end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
",
    )
});

/// Keys: the record. Arguments: token, how long to keep the record in ms, whether this is sent again.
pub(super) static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local record = redis.call('HMGET', KEYS[1], 'state', 'token')
if record[2] ~= ARGV[1] then return 0 end
if record[1] == 'free' and ARGV[3] == '1' then return 1 end
if record[1] ~= 'held' then return 0 end
redis.call('HSET', KEYS[1], 'state', 'free', 'until', '0')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
",
    )
});
