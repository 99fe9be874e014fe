package console

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server"
)

func TestAStreamIsCreated(t *testing.T) {
	w := newWorld(t, false)
	page := w.did("/console/new-stream", "name", "orders", "one_message_per_key", "true", "retain_up_to", "1000")
	require.Contains(t, page, "The stream was created.")
	require.Contains(t, page, "the newest message of each key")
	require.NotContains(t, page[strings.Index(page, "<main"):], "done=", "no link repeats what was done")
	s, err := w.client.GetStream(t.Context(), "orders")
	require.NoError(t, err)
	require.True(t, *s.OneMessagePerKey)
	require.Equal(t, 1000, *s.RetainUpTo)
	require.Contains(t, w.log.String(), "a stream was created")

	for values, want := range map[[2]string]string{
		{"name", "orders"}:    `id="name-problem" role="alert">has already been taken`,
		{"name", "no spaces"}: `id="name-problem" role="alert">`,
		{"name", ""}:          `id="name-problem" role="alert">Fill this in.`,
		{"retain_up_to", "x"}: `id="retain_up_to-problem" role="alert">Write a whole number above 0, or nothing.`,
	} {
		g := w.submit("/console/new-stream", values[0], values[1])
		require.Equal(t, http.StatusUnprocessableEntity, g.status, values)
		require.Contains(t, g.body, want)
		require.Contains(t, g.body, `name="`+values[0]+`" type="text"`)
		if values[1] != "" {
			require.Contains(t, g.body, `value="`+values[1]+`"`, "what was typed is not lost")
		}
	}
}

func TestAConsumerIsCreatedAndDeleted(t *testing.T) {
	w := newWorld(t, false)
	w.orders(sequin.Message{Key: "a", Data: "1"})
	w.see("/console/streams/orders") // what it knows of the stream is used again within a second
	page := w.did("/console/streams/orders/new-consumer", "name", "mail", "filter_key_pattern", "eu.>", "start_from", "end", "ack_wait_ms", "2m", "max_deliver", "5")
	require.Contains(t, page, "The consumer was created.")
	c, err := w.client.GetConsumer(t.Context(), "orders", "mail")
	require.NoError(t, err)
	require.Equal(t, "eu.>", c.Filter)
	require.Equal(t, 2*time.Minute, c.AckWait)
	require.Equal(t, 5, c.MaxDeliver)
	require.Equal(t, int64(2), c.StartSeq)
	for values, want := range map[[2]string]string{
		{"filter_key_pattern", "a.>.b"}: `id="filter_key_pattern-problem" role="alert">`,
		{"ack_wait_ms", "soon"}:         `id="ack_wait_ms-problem" role="alert">Write a duration, such as 30s or 5m.`,
	} {
		g := w.submit("/console/streams/orders/new-consumer", "name", "other", values[0], values[1])
		require.Equal(t, http.StatusUnprocessableEntity, g.status)
		require.Contains(t, g.body, want)
	}
	g := w.submit("/console/streams/orders/consumers/mail/delete", "confirm", "orders")
	require.Equal(t, http.StatusUnprocessableEntity, g.status)
	require.Contains(t, g.body, "This is not mail.")
	require.Contains(t, w.did("/console/streams/orders/consumers/mail/delete", "confirm", "mail"), "The consumer was deleted.")
	_, err = w.client.GetConsumer(t.Context(), "orders", "mail")
	require.ErrorIs(t, err, sequin.ErrNotFound)
}

func TestAMessageIsSent(t *testing.T) {
	w := newWorld(t, false)
	w.orders()
	page := w.did("/console/streams/orders/send", "key", "orders.1", "data", "{\r\n  \"a\": \"é<\"\r\n}", "headers", "trace: 1\r\n\r\n other:a:b ")
	require.Contains(t, page, "The message was sent.")
	require.Contains(t, page, "orders.1")
	m, err := w.client.GetMessage(t.Context(), "orders", "orders.1")
	require.NoError(t, err)
	require.Equal(t, "{\n  \"a\": \"é<\"\n}", m.Data)
	require.Equal(t, map[string]string{"trace": "1", "other": "a:b"}, m.Headers)
	for values, want := range map[[2]string]string{
		{"key", "a b"}:     `id="key-problem" role="alert">`,
		{"data", "a\x00b"}: `id="data-problem" role="alert">`,
		{"headers", "a"}:   `id="headers-problem" role="alert">Write each header as Name: value.`,
	} {
		g := w.submit("/console/streams/orders/send", values[0], values[1], "key", "k")
		require.Equal(t, http.StatusUnprocessableEntity, g.status, values)
		require.Contains(t, g.body, want)
	}
}

func TestAStreamIsPurgedAndDeleted(t *testing.T) {
	w := newWorld(t, false)
	w.orders(sequin.Message{Key: "a", Data: "1"}, sequin.Message{Key: "b.1", Data: "2"}, sequin.Message{Key: "b.2", Data: "3"})
	g := w.submit("/console/streams/orders/purge", "key_pattern", "b.*")
	require.Equal(t, http.StatusUnprocessableEntity, g.status, "it was not confirmed")
	require.Contains(t, w.did("/console/streams/orders/purge", "key_pattern", "b.*", "before_seq", "3", "confirm", "orders"), "Messages that were removed: 1.")
	g = w.submit("/console/streams/orders/purge", "key_pattern", "a.>.b", "confirm", "orders")
	require.Contains(t, g.body, `id="key_pattern-problem"`)
	require.Contains(t, w.did("/console/streams/orders/purge", "confirm", "orders"), "Messages that were removed: 2.")
	require.Contains(t, w.did("/console/streams/orders/delete", "confirm", "orders"), "The stream was deleted.")
	_, err := w.client.GetStream(t.Context(), "orders")
	require.ErrorIs(t, err, sequin.ErrNotFound)
	require.Equal(t, http.StatusNotFound, w.get("/console/streams/orders/delete").status)
}

func TestMessagesOnLeaseAreNacked(t *testing.T) {
	w := newWorld(t, false)
	w.orders(sequin.Message{Key: "a", Data: "1"}, sequin.Message{Key: "b", Data: "2"})
	got, err := w.client.ReceiveMessages(t.Context(), "orders", "billing", sequin.ReceiveOptions{})
	require.NoError(t, err)
	page := w.see("/console/streams/orders/consumers/billing")
	require.Contains(t, page, `value="`+got[0].AckID+`" aria-label="Choose a"`)
	require.Contains(t, page, "delivery 1, last now; the lease ends in ")
	require.Equal(t, http.StatusBadRequest, w.get("/console/streams/orders/consumers/billing/nack").status)
	page = w.did("/console/streams/orders/consumers/billing/nack?ack_id=" + got[1].AckID)
	require.Contains(t, page, "Messages that were nacked: 1.")
	again, err := w.client.ReceiveMessages(t.Context(), "orders", "billing", sequin.ReceiveOptions{})
	require.NoError(t, err)
	require.Len(t, again, 1)
	require.Equal(t, "b", again[0].Key)
}

func TestDeadLettersAreRedriven(t *testing.T) {
	w := newWorld(t, false)
	w.orders()
	_, err := w.client.CreateStream(t.Context(), "dead", sequin.StreamOptions{})
	require.NoError(t, err)
	_, err = w.client.CreateConsumer(t.Context(), "dead", "redrive", ">", sequin.ConsumerOptions{})
	require.NoError(t, err)
	letter, err := json.Marshal(sequin.DeadMessage{Stream: "orders", Consumer: "billing", Key: "orders.1", Data: "1", Seq: 1})
	require.NoError(t, err)
	_, err = w.client.SendMessage(t.Context(), "dead", "letter", string(letter))
	require.NoError(t, err)
	require.Contains(t, w.did("/console/streams/dead/consumers/redrive/redrive"), "Messages that were sent to their streams again: 1.")
	m, err := w.client.GetMessage(t.Context(), "orders", "orders.1")
	require.NoError(t, err)
	require.Equal(t, "1", m.Data)

	_, err = w.client.SendMessage(t.Context(), "dead", "other", "no letter")
	require.NoError(t, err)
	g := w.submit("/console/streams/dead/consumers/redrive/redrive")
	require.Equal(t, http.StatusUnprocessableEntity, g.status)
	require.Contains(t, g.body, "Sent again: 0. Left as they are: 1. not a dead letter")
}

// A redrive that takes long answers with how far it came. The browser would give up.
func TestALongRedriveGoesOnLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := server.New(server.Config{})
		defer api.Close()
		c := New(Config{Log: slog.New(slog.DiscardHandler)})
		receives := 0
		c.Use(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/receive") {
				if receives++; receives > 1 {
					<-r.Context().Done()
				}
			}
			api.ServeHTTP(w, r)
		}))
		v := &visit{console: c, client: c.newClient(""), r: httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)}
		for _, name := range []string{"orders", "dead"} {
			_, err := v.client.CreateStream(t.Context(), name, sequin.StreamOptions{})
			require.NoError(t, err)
		}
		_, err := v.client.CreateConsumer(t.Context(), "dead", "redrive", ">", sequin.ConsumerOptions{})
		require.NoError(t, err)
		letter, err := json.Marshal(sequin.DeadMessage{Stream: "orders", Key: "orders.1", Data: "1", Seq: 1})
		require.NoError(t, err)
		_, err = v.client.SendMessage(t.Context(), "dead", "letter", string(letter))
		require.NoError(t, err)
		v.r.SetPathValue("stream", "dead")
		v.r.SetPathValue("consumer", "redrive")
		begun := time.Now()
		d, err := redriveLetters.do(v)
		require.NoError(t, err)
		require.Equal(t, &done{"redrive-goes-on", 1, "/console/streams/dead/consumers/redrive"}, d)
		require.Equal(t, redriveFor, time.Since(begun))
	})
}

func TestAFormThatIsTooLargeIsRefused(t *testing.T) {
	w := newWorld(t, false)
	g := w.post("/console/new-stream", url.Values{"name": {strings.Repeat("a", maxForm)}})
	require.Equal(t, http.StatusRequestEntityTooLarge, g.status)
	require.Contains(t, g.body, "Use the command sequin send")
}

func TestAnActionIsRefusedByTheAPI(t *testing.T) {
	w := newWorld(t, true)
	w.orders()
	w.login(adminToken)
	page := w.see("/console/streams/orders/send")
	w.reduced.Store(true) // the token loses rights after the page was loaded
	g := w.post("/console/streams/orders/send", map[string][]string{"form_token": {formTokenField.FindStringSubmatch(page)[1]}, "key": {"a"}})
	require.Equal(t, http.StatusForbidden, g.status)
	require.Contains(t, g.body, "Your token has the rights read")
}

func TestWhatWasDoneIsNoTextOfTheURL(t *testing.T) {
	w := newWorld(t, false)
	page := w.see("/console/?done=purged&n=%3Cb%3E+call+us")
	require.Contains(t, page, "Messages that were removed: ?.")
	require.NotContains(t, page, "call us")
	require.NotContains(t, w.see("/console/?done=anything"), `role="status"`)
}
