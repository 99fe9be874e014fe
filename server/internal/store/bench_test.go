package store

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"
)

const benchBatch = 1_000

var benchData = strings.Repeat("x", 100)

// benchBacklogs are the sizes of the stream: no operation should get slower as it grows.
var benchBacklogs = []int{1_000, 100_000, 1_000_000}

func benchMessages(batch int) []Message {
	messages := make([]Message, benchBatch)
	for i := range messages {
		messages[i] = Message{Key: fmt.Sprintf("orders.%d.%d", batch, i), Data: benchData}
	}
	return messages
}

// benchStream returns a stream with a backlog, and a consumer that has received none of it.
func benchStream(b *testing.B, backlog int, o StreamOptions) (*stream, Consumer) {
	b.Helper()
	o.Name = "s"
	s, err := NewMemory().CreateStream(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	c, err := s.CreateConsumer(b.Context(), ConsumerOptions{Name: "c", Filter: "orders.>", ConsumerLimits: ConsumerLimits{
		AckWait: time.Hour, MaxAckPending: 1 << 30, MaxWaiting: 20,
	}})
	if err != nil {
		b.Fatal(err)
	}
	for i := range backlog / benchBatch {
		benchSend(b, s, i)
	}
	return s.(*stream), c
}

func benchSend(b *testing.B, s Stream, batch int) {
	b.Helper()
	if _, err := s.Send(b.Context(), Once{}, benchMessages(batch)); err != nil {
		b.Fatal(err)
	}
}

func benchReceive(b *testing.B, c Consumer, dst []Delivery) []Delivery {
	b.Helper()
	dst, err := c.Receive(b.Context(), benchBatch, dst[:0])
	if err != nil || len(dst) != benchBatch {
		b.Fatal(len(dst), err)
	}
	return dst
}

func benchSettle(b *testing.B, c Consumer, all []Delivery, how Settlement) {
	b.Helper()
	ids := make([]ID, len(all))
	for i, d := range all {
		ids[i] = d.ID
	}
	if err := c.Settle(b.Context(), ids, how); err != nil {
		b.Fatal(err)
	}
}

func overBacklogs(b *testing.B, f func(b *testing.B, backlog int)) {
	for _, backlog := range benchBacklogs {
		b.Run(fmt.Sprintf("backlog=%d", backlog), func(b *testing.B) {
			b.ReportAllocs()
			f(b, backlog)
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchBatch, "ns/msg")
		})
	}
}

// BenchmarkSend appends batches of 1,000.
func BenchmarkSend(b *testing.B) {
	overBacklogs(b, func(b *testing.B, backlog int) {
		s, _ := benchStream(b, backlog, StreamOptions{})
		messages := benchMessages(backlog)
		for b.Loop() {
			if _, err := s.Send(b.Context(), Once{}, messages); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkSendRetained appends batches of 1,000 to a stream that drops as many.
func BenchmarkSendRetained(b *testing.B) {
	overBacklogs(b, func(b *testing.B, backlog int) {
		s, _ := benchStream(b, backlog, StreamOptions{RetainUpTo: backlog})
		messages := benchMessages(backlog)
		for b.Loop() {
			if _, err := s.Send(b.Context(), Once{}, messages); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkSendReplacing replaces 1,000 keys among the backlog's.
func BenchmarkSendReplacing(b *testing.B) {
	overBacklogs(b, func(b *testing.B, backlog int) {
		s, _ := benchStream(b, backlog, StreamOptions{OneMessagePerKey: true, ProcessUnmodified: true})
		messages := benchMessages(0)
		for b.Loop() {
			if _, err := s.Send(b.Context(), Once{}, messages); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkReceiveAck receives and acks batches of 1,000. It sends as many, untimed, to keep the size of the backlog.
func BenchmarkReceiveAck(b *testing.B) {
	overBacklogs(b, func(b *testing.B, backlog int) {
		s, c := benchStream(b, backlog, StreamOptions{RetainUpTo: 2 * backlog})
		var got []Delivery
		for i := backlog; b.Loop(); i++ {
			got = benchReceive(b, c, got)
			benchSettle(b, c, got, Ack)
			b.StopTimer()
			benchSend(b, s, i)
			b.StartTimer()
		}
	})
}

// BenchmarkReceiveNack receives and nacks the same 1,000 messages, while the rest of the backlog is on lease.
func BenchmarkReceiveNack(b *testing.B) {
	overBacklogs(b, func(b *testing.B, backlog int) {
		_, c := benchStream(b, backlog, StreamOptions{})
		var got []Delivery
		for range backlog / benchBatch {
			got = benchReceive(b, c, got)
		}
		benchSettle(b, c, got, Nack)
		for b.Loop() {
			got = benchReceive(b, c, got)
			benchSettle(b, c, got, Nack)
		}
	})
}

// BenchmarkExpire receives the same 1,000 messages, whose leases end at once, while the rest of the backlog is on lease.
func BenchmarkExpire(b *testing.B) {
	overBacklogs(b, func(b *testing.B, backlog int) {
		_, c := benchStream(b, backlog, StreamOptions{})
		var got []Delivery
		for range backlog/benchBatch - 1 {
			got = benchReceive(b, c, got)
		}
		limits := must(c.Info(b.Context())).ConsumerLimits
		limits.AckWait = 0
		if _, err := c.Update(b.Context(), limits); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			got = benchReceive(b, c, got)
		}
	})
}

// BenchmarkHundredConsumers sends 1,000 messages to a stream with a hundred consumers, each of which gets ten of them.
func BenchmarkHundredConsumers(b *testing.B) {
	s, _ := benchStream(b, 0, StreamOptions{RetainUpTo: 100_000})
	consumers := make([]Consumer, 100)
	for i := range consumers {
		c, err := s.CreateConsumer(b.Context(), ConsumerOptions{Name: fmt.Sprint(i), Filter: fmt.Sprintf("orders.*.*.%d", i), ConsumerLimits: ConsumerLimits{
			AckWait: time.Hour, MaxAckPending: 1 << 30, MaxWaiting: 20,
		}})
		if err != nil {
			b.Fatal(err)
		}
		consumers[i] = c
	}
	messages := benchMessages(0)
	for i := range messages {
		messages[i].Key += fmt.Sprintf(".%d", i%100)
	}
	b.ReportAllocs()
	var got []Delivery
	for b.Loop() {
		if _, err := s.Send(b.Context(), Once{}, messages); err != nil {
			b.Fatal(err)
		}
		for _, c := range consumers {
			got, _ = c.Receive(b.Context(), benchBatch, got[:0])
			if len(got) != benchBatch/100 {
				b.Fatal(len(got))
			}
			benchSettle(b, c, got, Ack)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchBatch, "ns/msg")
}

func BenchmarkHashBody(b *testing.B) {
	for _, size := range []int{100, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			body := make([]byte, size)
			b.SetBytes(int64(size))
			for b.Loop() {
				HashBody(body)
			}
		})
	}
}

// BenchmarkReplaceKeys replaces messages of random keys on a stream that keeps one message per key.
func BenchmarkReplaceKeys(b *testing.B) {
	for _, keys := range []int{1_000, 100_000, 10_000_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			s, _ := benchStream(b, 0, StreamOptions{OneMessagePerKey: true})
			key := func(i int) string { return fmt.Sprintf("orders.hall_7.%d", i) }
			batch := make([]Message, benchBatch)
			for i := range keys {
				batch[i%benchBatch] = Message{Key: key(i), Data: benchData}
				if (i+1)%benchBatch == 0 {
					if _, err := s.Send(b.Context(), Once{}, batch); err != nil {
						b.Fatal(err)
					}
				}
			}
			order := rand.New(rand.NewPCG(1, 2)).Perm(keys)
			next := 0
			runtime.GC()
			b.ResetTimer()
			for range b.N {
				b.StopTimer()
				for i := range batch {
					batch[i] = Message{Key: key(order[next%keys]), Data: fmt.Sprintf("%08d", next) + benchData[8:]}
					next++
				}
				b.StartTimer()
				if _, err := s.Send(b.Context(), Once{}, batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchBatch, "ns/msg")
		})
	}
}
