package sequin_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

func TestConsumersAreCreatedReadListedUpdatedAndDeleted(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		s, a := w.stream(t, "s", sequin.ConsumerOptions{})
		b, err := w.client.CreateConsumer(w.ctx, s.ID, "b", "orders.*.new",
			sequin.ConsumerOptions{AckWait: 1500 * time.Millisecond, MaxAckPending: 5, MaxDeliver: 3, MaxWaiting: 7})
		require.NoError(t, err)
		require.Equal(t, s.ID, b.StreamID)
		require.Equal(t, "orders.*.new", b.Filter)
		require.Equal(t, 1500*time.Millisecond, b.AckWait)
		require.Equal(t, 5, b.MaxAckPending)
		require.Equal(t, 3, b.MaxDeliver)
		require.Equal(t, 7, b.MaxWaiting)
		for _, name := range []string{"b", b.ID} {
			got, err := w.client.GetConsumer(w.ctx, "s", name)
			require.NoError(t, err)
			require.Equal(t, b, got)
		}
		all, err := w.client.ListConsumers(w.ctx, "s")
		require.NoError(t, err)
		require.ElementsMatch(t, []sequin.Consumer{*a, *b}, all)

		time.Sleep(time.Second)
		updated, err := w.client.UpdateConsumer(w.ctx, "s", "b", sequin.ConsumerOptions{AckWait: time.Minute, MaxDeliver: sequin.Unlimited})
		require.NoError(t, err)
		want := *b
		want.AckWait, want.MaxDeliver, want.UpdatedAt = time.Minute, sequin.Unlimited, updated.UpdatedAt
		require.Equal(t, want, *updated, "options that are not set are not changed")
		got, err := w.client.GetConsumer(w.ctx, "s", "b")
		require.NoError(t, err)
		require.Equal(t, updated, got)

		require.NoError(t, w.client.DeleteConsumer(w.ctx, "s", "b"))
		_, err = w.client.GetConsumer(w.ctx, "s", "b")
		require.ErrorIs(t, err, sequin.ErrNotFound)
		require.ErrorIs(t, w.client.DeleteConsumer(w.ctx, "s", "b"), sequin.ErrNotFound)
		_, err = w.client.UpdateConsumer(w.ctx, "s", "b", sequin.ConsumerOptions{MaxWaiting: 1})
		require.ErrorIs(t, err, sequin.ErrNotFound)
		_, err = w.client.ListConsumers(w.ctx, "none")
		require.ErrorIs(t, err, sequin.ErrNotFound)
	})
}

func TestAConsumerBelongsToOneStream(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "s", sequin.ConsumerOptions{})
		_, err := w.client.CreateStream(w.ctx, "t", sequin.StreamOptions{})
		require.NoError(t, err)
		_, err = w.client.GetConsumer(w.ctx, "t", "all")
		require.ErrorIs(t, err, sequin.ErrNotFound)
	})
}

func TestAConsumerOptionThatIsNotSetIsNotSent(t *testing.T) {
	for _, row := range []struct {
		opts sequin.ConsumerOptions
		want string // besides name, filter and kind
	}{
		{sequin.ConsumerOptions{}, ``},
		{sequin.ConsumerOptions{AckWait: 1500 * time.Millisecond}, `"ack_wait_ms":1500,`},
		{sequin.ConsumerOptions{MaxAckPending: 5}, `"max_ack_pending":5,`},
		{sequin.ConsumerOptions{MaxDeliver: 3}, `"max_deliver":3,`},
		{sequin.ConsumerOptions{MaxDeliver: sequin.Unlimited}, `"max_deliver":null,`},
		{sequin.ConsumerOptions{MaxWaiting: 7}, `"max_waiting":7,`},
	} {
		inBothModes(t, func(t *testing.T, w *world) {
			_, err := w.client.CreateStream(w.ctx, "s", sequin.StreamOptions{})
			require.NoError(t, err)
			_, err = w.client.CreateConsumer(w.ctx, "s", "c", "a.>", row.opts)
			require.NoError(t, err)
			require.JSONEq(t, `{`+row.want+`"name":"c","filter_key_pattern":"a.>","kind":"pull"}`, body(w, sequintest.CreateConsumer))
			if row.want == "" {
				return
			}
			_, err = w.client.UpdateConsumer(w.ctx, "s", "c", row.opts)
			require.NoError(t, err)
			require.JSONEq(t, `{`+row.want[:len(row.want)-1]+`}`, body(w, sequintest.UpdateConsumer))
		})
	}
}

func TestPeekMessagesAndMessageInfoShowTheStateOfAMessage(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		_, k := w.stream(t, "s", sequin.ConsumerOptions{AckWait: 10 * time.Second})
		_, err := w.client.SendMessages(w.ctx, "s", distinct(2))
		require.NoError(t, err)
		got, err := w.client.ReceiveMessage(w.ctx, "s", k.ID)
		require.NoError(t, err)
		now := time.Now().UTC().Truncate(time.Microsecond)

		info, err := w.client.MessageInfo(w.ctx, "s", got.Key)
		require.NoError(t, err)
		require.Equal(t, got.StoredMessage, info.Message)
		require.Equal(t, []sequin.ConsumerInfo{{ConsumerID: k.ID, ConsumerName: "all", ConsumerFilter: ">",
			DeliveryInfo: sequin.DeliveryInfo{AckID: got.AckID, DeliverCount: 1, LastDeliveredAt: now,
				NotVisibleUntil: now.Add(10 * time.Second), State: sequin.StatePending}}}, info.Consumers)

		yes, no := true, false
		for _, row := range []struct {
			visible *bool
			want    map[string]string // state by key
		}{
			{nil, map[string]string{other(got.Key): sequin.StateAvailable, got.Key: sequin.StateDelivered}},
			{&no, map[string]string{got.Key: sequin.StateDelivered}},
			{&yes, map[string]string{other(got.Key): sequin.StateAvailable}},
		} {
			peeked, err := w.client.PeekMessages(w.ctx, "s", "all", sequin.ListOptions{Visible: row.visible})
			require.NoError(t, err)
			states := map[string]string{}
			for _, p := range peeked {
				states[p.Message.Key] = p.Info.State
				require.Equal(t, p.Info.State == sequin.StateAvailable, p.Info.NotVisibleUntil.IsZero())
				require.Equal(t, p.Info.State == sequin.StateAvailable, p.Info.DeliverCount == 0)
			}
			require.Equal(t, row.want, states)
		}
		first, err := w.client.PeekMessages(w.ctx, "s", "all", sequin.ListOptions{Limit: 1, Sort: sequin.SortDescending, KeyPattern: "k.*"})
		require.NoError(t, err)
		require.Len(t, first, 1)
		require.Zero(t, w.Count(sequintest.Ack)+w.Count(sequintest.Nack))
	})
}

// other returns the other one of the keys k.0 and k.1.
func other(key string) string {
	if key == "k.0" {
		return "k.1"
	}
	return "k.0"
}

func TestEnsureConsumerCreatesOnceAndFindsAfterwards(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		_, err := w.client.EnsureConsumer(w.ctx, "s", "c", ">", sequin.ConsumerOptions{})
		require.ErrorIs(t, err, sequin.ErrNotFound, "there is no stream")
		_, err = w.client.CreateStream(w.ctx, "s", sequin.StreamOptions{})
		require.NoError(t, err)
		before := w.Count(sequintest.CreateConsumer)
		opts := sequin.ConsumerOptions{AckWait: time.Minute, MaxAckPending: 5, MaxDeliver: sequin.Unlimited, MaxWaiting: 3}
		made, err := w.client.EnsureConsumer(w.ctx, "s", "c", "a.>", opts)
		require.NoError(t, err)
		for _, same := range []sequin.ConsumerOptions{opts, {}} {
			found, err := w.client.EnsureConsumer(w.ctx, "s", "c", "a.>", same)
			require.NoError(t, err)
			require.Equal(t, made, found)
		}
		require.Equal(t, 1, w.Count(sequintest.CreateConsumer)-before)
	})
}

func TestEnsureConsumerListsEverySettingThatDiffers(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "s", sequin.ConsumerOptions{})
		k, err := w.client.EnsureConsumer(w.ctx, "s", "all", "a.>",
			sequin.ConsumerOptions{AckWait: time.Minute, MaxAckPending: 5, MaxDeliver: 3, MaxWaiting: 7})
		require.NotNil(t, k, "the consumer is returned too")
		require.ErrorIs(t, err, sequin.ErrMismatch)
		for _, says := range []string{"filter_key_pattern is >, not a.>", "ack_wait is 30s, not 1m0s", "max_ack_pending is 10000, not 5",
			"max_deliver is unlimited, not 3", "max_waiting is 20, not 7"} {
			require.ErrorContains(t, err, says)
		}
	})
}

func TestEnsureConsumerWithoutAFilterAcceptsAnyAndCreatesTheWidest(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "s", sequin.ConsumerOptions{})
		_, err := w.client.CreateConsumer(w.ctx, "s", "narrow", "a.>", sequin.ConsumerOptions{})
		require.NoError(t, err)
		for name, filter := range map[string]string{"narrow": "a.>", "new": ">"} {
			for range 2 {
				k, err := w.client.EnsureConsumer(w.ctx, "s", name, "", sequin.ConsumerOptions{})
				require.NoError(t, err)
				require.Equal(t, filter, k.Filter)
			}
		}
	})
}

func ensureConsumer(w *world) (string, error) {
	k, err := w.client.EnsureConsumer(w.ctx, "s", "c", ">", sequin.ConsumerOptions{})
	if err != nil {
		return "", err
	}
	return k.ID, nil
}

func TestEnsureConsumerFindsAConsumerThatAnotherProgramJustCreated(t *testing.T) {
	ensured(t, sequintest.GetConsumer, sequintest.CreateConsumer, nil, ensureConsumer, func(w *world) string {
		id, err := ensureConsumer(w)
		require.NoError(t, err)
		return id
	})
}

func TestEnsureConsumerFindsAConsumerWhoseCreateLostItsAnswer(t *testing.T) {
	for _, lost := range []sequintest.Fault{{CutAfter: true}, {Garble: true}, {Status: 502, Acted: true}} {
		ensured(t, sequintest.GetConsumer, sequintest.CreateConsumer, &lost, ensureConsumer, nil)
	}
}

func TestManyProgramsMayEnsureAtTheSameTime(t *testing.T) {
	for _, mode := range []string{"stream", "consumer"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, sequintest.Config{}, sequin.Config{})
			ensure := ensureStream
			if mode == "consumer" {
				w.stream(t, "s", sequin.ConsumerOptions{})
				ensure = ensureConsumer
			}
			type outcome struct {
				id  string
				err error
			}
			outcomes := make(chan outcome)
			for range 20 {
				go func() {
					id, err := ensure(w)
					outcomes <- outcome{id, err}
				}()
			}
			ids := map[string]bool{}
			for range 20 {
				o := <-outcomes
				require.NoError(t, o.err)
				ids[o.id] = true
			}
			require.Len(t, ids, 1)
		})
	}
}
