package sequin_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// body returns the body of the latest request of an operation.
func body(w *world, op sequintest.Op) string {
	requests := w.Requests(op)
	return string(requests[len(requests)-1].Body)
}

func TestStreamsAreCreatedReadListedAndDeleted(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		a, err := w.client.CreateStream(w.ctx, "a", sequin.StreamOptions{})
		require.NoError(t, err)
		b, err := w.client.CreateStream(w.ctx, "b", sequin.StreamOptions{})
		require.NoError(t, err)
		for _, name := range []string{"a", a.ID} {
			got, err := w.client.GetStream(w.ctx, name)
			require.NoError(t, err)
			require.Equal(t, a, got)
		}
		all, err := w.client.ListStreams(w.ctx)
		require.NoError(t, err)
		require.Contains(t, all, *a)
		require.Contains(t, all, *b)

		w.stream(t, "counted", sequin.ConsumerOptions{})
		_, err = w.client.SendMessages(w.ctx, "counted", distinct(3))
		require.NoError(t, err)
		counted, err := w.client.GetStream(w.ctx, "counted")
		require.NoError(t, err)
		require.EqualValues(t, 3, counted.Stats.MessageCount)
		require.EqualValues(t, 1, counted.Stats.ConsumerCount)
		require.Positive(t, counted.Stats.StorageSize)

		require.NoError(t, w.client.DeleteStream(w.ctx, "counted"))
		_, err = w.client.GetStream(w.ctx, "counted")
		require.ErrorIs(t, err, sequin.ErrNotFound)
		require.ErrorIs(t, w.client.DeleteStream(w.ctx, "counted"), sequin.ErrNotFound)
		_, ok := w.Stream("counted")
		require.False(t, ok)
	})
}

func TestAStreamOptionThatIsNotSetIsNotSent(t *testing.T) {
	for _, row := range []struct {
		opts sequin.StreamOptions
		want string
	}{
		{sequin.StreamOptions{}, `{"name":"t"}`},
		{sequin.StreamOptions{OneMessagePerKey: true}, `{"name":"t","one_message_per_key":true}`},
		{sequin.StreamOptions{RetainUpTo: 9}, `{"name":"t","retain_up_to":9}`},
		{sequin.StreamOptions{OneMessagePerKey: true, ProcessUnmodified: true, MaxStorageGB: 1, RetainUpTo: 2, RetainAtLeast: 2},
			`{"name":"t","one_message_per_key":true,"process_unmodified":true,"max_storage_gb":1,"retain_up_to":2,"retain_at_least":2}`},
	} {
		inBothModes(t, func(t *testing.T, w *world) {
			s, err := w.client.CreateStream(w.ctx, "t", row.opts)
			require.NoError(t, err)
			require.Equal(t, row.want, body(w, sequintest.CreateStream))
			if w.mode == server.Documented {
				require.Equal(t, row.opts.OneMessagePerKey, *s.OneMessagePerKey)
			} else {
				require.Nil(t, s.OneMessagePerKey, "the 2024 server shows no options")
			}
		})
	}
}

func TestMessagesAreListedBySeqPatternAndLimit(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "s", sequin.ConsumerOptions{})
		for _, key := range []string{"a.1", "a.2", "b.1"} {
			_, err := w.client.SendMessage(w.ctx, "s", key, key)
			require.NoError(t, err)
		}
		for _, row := range []struct {
			opts  sequin.ListOptions
			query string
			want  []string
		}{
			{sequin.ListOptions{}, "", []string{"a.1", "a.2", "b.1"}},
			{sequin.ListOptions{Sort: sequin.SortAscending}, "?sort=seq_asc", []string{"a.1", "a.2", "b.1"}},
			{sequin.ListOptions{Sort: sequin.SortDescending}, "?sort=seq_desc", []string{"b.1", "a.2", "a.1"}},
			{sequin.ListOptions{Limit: 2}, "?limit=2", []string{"a.1", "a.2"}},
			{sequin.ListOptions{KeyPattern: "a.>"}, "?key_pattern=a.%3E", []string{"a.1", "a.2"}},
			{sequin.ListOptions{KeyPattern: "*.1", Sort: sequin.SortDescending, Limit: 1}, "?key_pattern=%2A.1&limit=1&sort=seq_desc", []string{"b.1"}},
			{sequin.ListOptions{KeyPattern: "none"}, "?key_pattern=none", nil},
		} {
			got, err := w.client.ListMessages(w.ctx, "s", row.opts)
			require.NoError(t, err)
			var keys []string
			for _, m := range got {
				keys = append(keys, m.Key)
				require.Equal(t, m.Key, m.Data)
				require.Len(t, m.DataHash, 44, "base64 of a SHA-256")
				require.NotEmpty(t, m.StreamID)
			}
			require.Equal(t, row.want, keys)
			requests := w.Requests(sequintest.ListMessages)
			require.Equal(t, "/api/streams/s/messages"+row.query, requests[len(requests)-1].Path)
		}
	})
}

func TestAMessageIsReadByItsKey(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "s", sequin.ConsumerOptions{})
		_, err := w.client.SendMessage(w.ctx, "s", "orders.1", "v1")
		require.NoError(t, err)
		m, err := w.client.GetMessage(w.ctx, "s", "orders.1")
		require.NoError(t, err)
		require.Equal(t, "v1", m.Data)
		_, err = w.client.GetMessage(w.ctx, "s", "orders.2")
		require.ErrorIs(t, err, sequin.ErrNotFound)
		_, err = w.client.MessageInfo(w.ctx, "s", "orders.2")
		require.ErrorIs(t, err, sequin.ErrNotFound)
	})
}

func TestEnsureStreamCreatesOnceAndFindsAfterwards(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		made, err := w.client.EnsureStream(w.ctx, "s", sequin.StreamOptions{OneMessagePerKey: true})
		require.NoError(t, err)
		found, err := w.client.EnsureStream(w.ctx, "s", sequin.StreamOptions{OneMessagePerKey: true})
		require.NoError(t, err)
		require.Equal(t, made, found)
		found, err = w.client.EnsureStream(w.ctx, "s", sequin.StreamOptions{})
		require.NoError(t, err, "options that are not set are not compared")
		require.Equal(t, made, found)
		require.Equal(t, 1, w.Count(sequintest.CreateStream))
		_, err = w.client.EnsureStream(w.ctx, "a b", sequin.StreamOptions{})
		require.ErrorIs(t, err, sequin.ErrValidation, "the error of the create is returned, and not that of the second get")
	})
}

// The 404 of an ingress does not mean that there is no stream.
func TestEnsureStreamDoesNotCreateOnAForeign404(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.Fault(sequintest.Fault{Op: sequintest.GetStream, Status: 404, Body: "<html>default backend"})
		_, err := w.client.EnsureStream(w.ctx, "s", sequin.StreamOptions{})
		var api *sequin.APIError
		require.ErrorAs(t, err, &api)
		require.True(t, api.Foreign)
		require.NotErrorIs(t, err, sequin.ErrNotFound)
		require.Equal(t, 1, w.Count(sequintest.Any), "returned at once")
	})
}

func TestEnsureStreamListsEveryOptionThatDiffers(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		_, err := w.client.CreateStream(w.ctx, "s", sequin.StreamOptions{})
		require.NoError(t, err)
		s, err := w.client.EnsureStream(w.ctx, "s", sequin.StreamOptions{OneMessagePerKey: true})
		require.NotNil(t, s, "the stream is returned too")
		if w.mode == server.Aug2024 {
			require.NoError(t, err, "all streams of the 2024 server keep one message per key")
			for option, opts := range map[string]sequin.StreamOptions{
				"process_unmodified": {ProcessUnmodified: true}, "max_storage_gb": {MaxStorageGB: 1},
				"retain_up_to": {RetainUpTo: 1}, "retain_at_least": {RetainAtLeast: 1},
			} {
				s, err = w.client.EnsureStream(w.ctx, "s", opts)
				require.NotNil(t, s)
				require.ErrorIs(t, err, sequin.ErrMismatch, "the server ignores the option")
				require.ErrorContains(t, err, option)
			}
			return
		}
		require.ErrorIs(t, err, sequin.ErrMismatch)
		require.ErrorContains(t, err, "one_message_per_key is false, not true")
	})
	w := `{"id":"i","name":"s","one_message_per_key":true,"process_unmodified":false,"max_storage_gb":2,"retain_up_to":3,"retain_at_least":4}`
	synctest.Test(t, func(t *testing.T) {
		world := newWorld(t, sequintest.Config{}, sequin.Config{})
		world.Fault(sequintest.Fault{Op: sequintest.GetStream, Status: 200, Body: w})
		_, err := world.client.EnsureStream(world.ctx, "s", sequin.StreamOptions{OneMessagePerKey: true, MaxStorageGB: 2, RetainUpTo: 3, RetainAtLeast: 4})
		require.NoError(t, err)
		_, err = world.client.EnsureStream(world.ctx, "s", sequin.StreamOptions{ProcessUnmodified: true, MaxStorageGB: 5, RetainUpTo: 6, RetainAtLeast: 7})
		for _, says := range []string{"process_unmodified is false, not true", "max_storage_gb is 2, not 5", "retain_up_to is 3, not 6", "retain_at_least is 4, not 7"} {
			require.ErrorContains(t, err, says)
		}
	})
}

// ensured calls EnsureStream or EnsureConsumer while another program creates the same (lost is nil), or while the answer to
// the create is lost.
func ensured(t *testing.T, get, create sequintest.Op, lost *sequintest.Fault, call func(w *world) (id string, err error), made func(w *world) string) {
	t.Helper()
	inBothModes(t, func(t *testing.T, w *world) {
		_, err := w.client.CreateStream(w.ctx, "s", sequin.StreamOptions{})
		require.NoError(t, err)
		want := ""
		if lost == nil { // another program was faster
			want = made(w)
			w.Fault(sequintest.Fault{Op: get, Status: 404, Body: `{"summary":"not yet"}`, Count: 1})
		} else {
			fault := *lost
			fault.Op, fault.Count = create, 1
			w.Fault(fault)
		}
		creates := w.Count(create)
		id, err := call(w)
		require.NoError(t, err)
		require.NotEmpty(t, id)
		require.Equal(t, 1, w.Count(create)-creates)
		if lost == nil {
			require.Equal(t, want, id)
		}
	})
}

func ensureStream(w *world) (string, error) {
	s, err := w.client.EnsureStream(w.ctx, "t", sequin.StreamOptions{})
	if err != nil {
		return "", err
	}
	return s.ID, nil
}

func TestEnsureStreamFindsAStreamThatAnotherProgramJustCreated(t *testing.T) {
	ensured(t, sequintest.GetStream, sequintest.CreateStream, nil, ensureStream, func(w *world) string {
		id, err := ensureStream(w)
		require.NoError(t, err)
		return id
	})
}

func TestEnsureStreamFindsAStreamWhoseCreateLostItsAnswer(t *testing.T) {
	for _, lost := range []sequintest.Fault{{CutAfter: true}, {Garble: true}, {Status: 502, Acted: true}} {
		ensured(t, sequintest.GetStream, sequintest.CreateStream, &lost, ensureStream, nil)
	}
}

func TestEnsureStreamReportsAnUnknownOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{})
		w.Fault(sequintest.Fault{Op: sequintest.CreateStream, CutBefore: true})
		_, err := ensureStream(w)
		require.ErrorIs(t, err, sequin.ErrOutcomeUnknown, "the second get did not find it, but the server may still create it")
		var api *sequin.APIError
		require.False(t, errors.As(err, &api))
	})
}
