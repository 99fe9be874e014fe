// Package batch gathers items into batches and runs the batches in the background.
//
// # What it promises
//
// Every admitted item gets exactly one final result, which is passed to Config.Done. A lane sends its items in the order in
// which they were admitted and has at most Config.Slots batches in flight. Two items with the same ID never pass each
// other in a lane with one slot. An item is passed over only if the limits forbid a repeated ID in a batch, if a candidate
// holds its ID (see Result.Aside), or if Config.Compare or Config.Unordered asks for another order.
//
// The number of lanes may adapt; see Config.MaxLanes. An item then changes its lane only in a queue, and only while nothing of its
// old lane is in flight, waits for a retry or is a candidate, so that the order of an ID holds.
//
// An idle engine runs the first item at once. The next batch fills while that one is in flight.
//
// An idle engine has no goroutine. Each batch in flight has one, which ends when no other batch may leave. Each
// goroutine that changes the state (by an admission, the end of a batch, or the alarm) decides under the lock which
// batches leave next. Every admitted item therefore has a goroutine that will run it. No goroutine and no timer remains
// after Close. An engine that has had no items for ten seconds has no timer and no lanes; the next item makes them again.
//
// # Who owns what
//
// The engine owns the queues, the batches in flight and the room that items take. Its mutex guards one struct, state.
// Only engine.go takes the mutex; the methods of state and lane expect it to be held. While batches are full it
// is held for a few microseconds: a goroutine that finds it held for longer sleeps, and waking up can take longer than a whole batch.
// That is why a queue is made of blocks that leave as batches, and why the items of a result are counted before the mutex is taken.
// A batch that is cut from parts of blocks is copied, which takes 20 to 50 µs for a thousand items.
//
// The caller owns what a run does (Config.Run), what a final result means (Config.Done), and failed items: they keep
// their room until the caller releases it.
//
// # What it does not know
//
// HTTP, messages, acks and leases. Of an item it knows only the size and the ID.
package batch
