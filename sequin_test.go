package sequin_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// ackIDs returns n different ack ids.
func ackIDs(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("7b1e4c9e-3a0f-4f0e-9d3a-%012d", i)
	}
	return ids
}

// distinct returns n messages with different keys.
func distinct(n int) []sequin.Message {
	messages := make([]sequin.Message, n)
	for i := range messages {
		messages[i] = sequin.Message{Key: fmt.Sprintf("k.%d", i), Data: "x"}
	}
	return messages
}

// badCall is a call with a wrong argument, and its error.
type badCall struct {
	name string
	want error
	call func() error
}

// badMessageCalls are calls that send, receive, ack and nack.
func badMessageCalls(ctx context.Context, c *sequin.Client) []badCall {
	receive := func(opts sequin.ReceiveOptions) func() error {
		return func() error { _, err := c.ReceiveMessages(ctx, "s", "all", opts); return err }
	}
	send := func(messages ...sequin.Message) func() error {
		return func() error { _, err := c.SendMessages(ctx, "s", messages); return err }
	}
	settle := func(ids ...string) func() error { return func() error { return c.AckMessages(ctx, "s", "all", ids) } }
	return []badCall{
		{"send no messages", sequin.ErrInvalidArgument, send()},
		{"send 1,001", sequin.ErrBatchTooLarge, send(distinct(1001)...)},
		{"send a bad key among good ones", sequin.ErrInvalidKey, send(sequin.Message{Key: "a"}, sequin.Message{Key: "b c"})},
		{"send bad data among good", sequin.ErrInvalidData, send(sequin.Message{Key: "a"}, sequin.Message{Key: "b", Data: "\xff"})},
		{"receive -1", sequin.ErrInvalidArgument, receive(sequin.ReceiveOptions{BatchSize: -1})},
		{"receive 1,001", sequin.ErrInvalidArgument, receive(sequin.ReceiveOptions{BatchSize: 1001})},
		{"wait 499 ms", sequin.ErrInvalidArgument, receive(sequin.ReceiveOptions{WaitFor: 499 * time.Millisecond})},
		{"wait above 5 min", sequin.ErrInvalidArgument, receive(sequin.ReceiveOptions{WaitFor: 5*time.Minute + time.Millisecond})},
		{"wait a fraction of a millisecond", sequin.ErrInvalidArgument, receive(sequin.ReceiveOptions{WaitFor: time.Second + 1})},
		{"wait below zero", sequin.ErrInvalidArgument, receive(sequin.ReceiveOptions{WaitFor: -time.Second})},
		{"ack nothing", sequin.ErrInvalidArgument, settle()},
		{"nack nothing", sequin.ErrInvalidArgument, func() error { return c.NackMessages(ctx, "s", "all", nil) }},
		{"ack 1,001", sequin.ErrBatchTooLarge, settle(ackIDs(1001)...)},
		{"ack empty", sequin.ErrInvalidAckID, settle("")},
		{"ack abc", sequin.ErrInvalidAckID, settle("abc")},
		{"ack a good id and a bad one", sequin.ErrInvalidAckID, settle(someID, "abc")},
		{"ack in braces", sequin.ErrInvalidAckID, settle("{" + someID + "}")},
		{"ack a urn", sequin.ErrInvalidAckID, settle("urn:uuid:" + someID)},
		{"ack without dashes", sequin.ErrInvalidAckID, settle(strings.ReplaceAll(someID, "-", ""))},
		{"ack what is as long as an id", sequin.ErrInvalidAckID, settle(strings.Repeat("x", len(someID)))},
		{"nack abc", sequin.ErrInvalidAckID, func() error { return c.NackMessage(ctx, "s", "all", "abc") }},
	}
}

// badLifecycleCalls are calls that create and change streams and consumers.
func badLifecycleCalls(ctx context.Context, c *sequin.Client) []badCall {
	stream := func(opts sequin.StreamOptions) func() error {
		return func() error { _, err := c.CreateStream(ctx, "t", opts); return err }
	}
	consumer := func(filter string, opts sequin.ConsumerOptions) func() error {
		return func() error { _, err := c.CreateConsumer(ctx, "s", "c", filter, opts); return err }
	}
	update := func(opts sequin.ConsumerOptions) func() error {
		return func() error { _, err := c.UpdateConsumer(ctx, "s", "all", opts); return err }
	}
	return []badCall{
		{"MaxStorageGB", sequin.ErrInvalidArgument, stream(sequin.StreamOptions{MaxStorageGB: -1})},
		{"RetainUpTo", sequin.ErrInvalidArgument, stream(sequin.StreamOptions{RetainUpTo: -1})},
		{"RetainAtLeast", sequin.ErrInvalidArgument, stream(sequin.StreamOptions{RetainAtLeast: -1})},
		{"filter empty", sequin.ErrInvalidPattern, consumer("", sequin.ConsumerOptions{})},
		{"filter malformed", sequin.ErrInvalidPattern, consumer("a.>.b", sequin.ConsumerOptions{})},
		{"AckWait below zero", sequin.ErrInvalidArgument, consumer(">", sequin.ConsumerOptions{AckWait: -time.Second})},
		{"AckWait a fraction of a millisecond", sequin.ErrInvalidArgument, consumer(">", sequin.ConsumerOptions{AckWait: time.Second + 1})},
		{"MaxAckPending", sequin.ErrInvalidArgument, consumer(">", sequin.ConsumerOptions{MaxAckPending: -1})},
		{"MaxDeliver", sequin.ErrInvalidArgument, consumer(">", sequin.ConsumerOptions{MaxDeliver: -2})},
		{"MaxWaiting", sequin.ErrInvalidArgument, consumer(">", sequin.ConsumerOptions{MaxWaiting: -1})},
		{"update nothing", sequin.ErrInvalidArgument, update(sequin.ConsumerOptions{})},
		{"update MaxWaiting", sequin.ErrInvalidArgument, update(sequin.ConsumerOptions{MaxWaiting: -1})},
		{"ensure stream RetainUpTo", sequin.ErrInvalidArgument, func() error {
			_, err := c.EnsureStream(ctx, "t", sequin.StreamOptions{RetainUpTo: -1})
			return err
		}},
		{"ensure consumer filter", sequin.ErrInvalidPattern, func() error {
			_, err := c.EnsureConsumer(ctx, "s", "c", "a..b", sequin.ConsumerOptions{})
			return err
		}},
		{"ensure consumer MaxDeliver", sequin.ErrInvalidArgument, func() error {
			_, err := c.EnsureConsumer(ctx, "s", "c", ">", sequin.ConsumerOptions{MaxDeliver: -2})
			return err
		}},
	}
}

// badReads are calls that read messages without leasing them.
func badReads(ctx context.Context, c *sequin.Client) []badCall {
	list := func(opts sequin.ListOptions) func() error {
		return func() error { _, err := c.ListMessages(ctx, "s", opts); return err }
	}
	peek := func(opts sequin.ListOptions) func() error {
		return func() error { _, err := c.PeekMessages(ctx, "s", "all", opts); return err }
	}
	yes := true
	return []badCall{
		{"list -1", sequin.ErrInvalidArgument, list(sequin.ListOptions{Limit: -1})},
		{"list 10,001", sequin.ErrInvalidArgument, list(sequin.ListOptions{Limit: 10_001})},
		{"list sorted by x", sequin.ErrInvalidArgument, list(sequin.ListOptions{Sort: "x"})},
		{"list by a malformed pattern", sequin.ErrInvalidPattern, list(sequin.ListOptions{KeyPattern: "a..b"})},
		{"list visible", sequin.ErrInvalidArgument, list(sequin.ListOptions{Visible: &yes})},
		{"peek 10,001", sequin.ErrInvalidArgument, peek(sequin.ListOptions{Limit: 10_001})},
		{"peek by a malformed pattern", sequin.ErrInvalidPattern, peek(sequin.ListOptions{KeyPattern: "*a"})},
		{"get a message by a bad key", sequin.ErrInvalidKey, func() error { _, err := c.GetMessage(ctx, "s", "a b"); return err }},
		{"info of a bad key", sequin.ErrInvalidKey, func() error { _, err := c.MessageInfo(ctx, "s", ""); return err }},
	}
}

func TestAWrongArgumentIsRefusedBeforeAnythingIsSent(t *testing.T) {
	inMode(t, 0, func(t *testing.T, w *world) {
		bad := slices.Concat(badMessageCalls(w.ctx, w.client), badLifecycleCalls(w.ctx, w.client), badReads(w.ctx, w.client))
		for _, row := range bad {
			nothingSent(t, w, func() { require.ErrorIs(t, row.call(), row.want, row.name) })
		}
	})
}

// namingCalls are all calls with the name of a stream, and some also with the name of a consumer.
func namingCalls(ctx context.Context, c *sequin.Client) map[string]func(stream, consumer string) error {
	return map[string]func(stream, consumer string) error{
		"receive": func(s, k string) error { _, err := c.ReceiveMessage(ctx, s, k); return err },
		"ack":     func(s, k string) error { return c.AckMessage(ctx, s, k, someID) },
		"nack":    func(s, k string) error { return c.NackMessage(ctx, s, k, someID) },
		"create consumer": func(s, k string) error {
			_, err := c.CreateConsumer(ctx, s, k, ">", sequin.ConsumerOptions{})
			return err
		},
		"ensure consumer": func(s, k string) error {
			_, err := c.EnsureConsumer(ctx, s, k, ">", sequin.ConsumerOptions{})
			return err
		},
		"get consumer": func(s, k string) error { _, err := c.GetConsumer(ctx, s, k); return err },
		"update consumer": func(s, k string) error {
			_, err := c.UpdateConsumer(ctx, s, k, sequin.ConsumerOptions{MaxWaiting: 1})
			return err
		},
		"delete consumer": func(s, k string) error { return c.DeleteConsumer(ctx, s, k) },
		"peek":            func(s, k string) error { _, err := c.PeekMessages(ctx, s, k, sequin.ListOptions{}); return err },
		"send":            func(s, _ string) error { _, err := c.SendMessage(ctx, s, "k", ""); return err },
		"create stream":   func(s, _ string) error { _, err := c.CreateStream(ctx, s, sequin.StreamOptions{}); return err },
		"ensure stream":   func(s, _ string) error { _, err := c.EnsureStream(ctx, s, sequin.StreamOptions{}); return err },
		"get stream":      func(s, _ string) error { _, err := c.GetStream(ctx, s); return err },
		"delete stream":   func(s, _ string) error { return c.DeleteStream(ctx, s) },
		"list consumers":  func(s, _ string) error { _, err := c.ListConsumers(ctx, s); return err },
		"list messages":   func(s, _ string) error { _, err := c.ListMessages(ctx, s, sequin.ListOptions{}); return err },
		"get message":     func(s, _ string) error { _, err := c.GetMessage(ctx, s, "k"); return err },
		"message info":    func(s, _ string) error { _, err := c.MessageInfo(ctx, s, "k"); return err },
	}
}

func TestAnEmptyNameIsRefusedBeforeAnythingIsSent(t *testing.T) {
	ofConsumers := map[string]bool{"receive": true, "ack": true, "nack": true, "create consumer": true, "ensure consumer": true,
		"get consumer": true, "update consumer": true, "delete consumer": true, "peek": true}
	inMode(t, 0, func(t *testing.T, w *world) {
		for name, call := range namingCalls(w.ctx, w.client) {
			nothingSent(t, w, func() {
				for _, bad := range []string{"", ".", ".."} {
					require.ErrorIs(t, call(bad, "all"), sequin.ErrInvalidArgument, name)
					if ofConsumers[name] {
						require.ErrorIs(t, call("s", bad), sequin.ErrInvalidArgument, name)
					}
				}
			})
		}
	})
}

func TestArgumentsAtTheirLimitsAreAccepted(t *testing.T) {
	inMode(t, 0, func(t *testing.T, w *world) {
		w.stream(t, "s", sequin.ConsumerOptions{})
		sent, err := w.client.SendMessages(w.ctx, "s", distinct(1000))
		require.NoError(t, err)
		require.Equal(t, 1000, sent.Published)
		got, err := w.client.ReceiveMessages(w.ctx, "s", "all", sequin.ReceiveOptions{BatchSize: 1000, WaitFor: 5 * time.Minute})
		require.NoError(t, err)
		require.Len(t, got, 1000)
		ids := make([]string, len(got))
		for i, m := range got {
			ids[i] = m.AckID
		}
		require.NoError(t, w.client.AckMessages(w.ctx, "s", "all", ids))
		require.Equal(t, ids, w.Requests(sequintest.Ack)[0].AckIDs())
		require.NoError(t, w.client.AckMessages(w.ctx, "s", "all", ackIDs(1000)))
		require.NoError(t, w.client.NackMessage(w.ctx, "s", "all", strings.ToUpper(someID)))
		_, err = w.client.ReceiveMessages(w.ctx, "s", "all", sequin.ReceiveOptions{BatchSize: 1, WaitFor: 500 * time.Millisecond})
		require.NoError(t, err)
		require.Equal(t, `{"batch_size":1,"wait_for":500}`, string(w.Requests(sequintest.Receive)[1].Body))
		listed, err := w.client.ListMessages(w.ctx, "s", sequin.ListOptions{Limit: 10_000})
		require.NoError(t, err)
		require.Len(t, listed, 1000)
	})
}
