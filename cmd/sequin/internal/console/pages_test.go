package console

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server"
)

func TestThePageOfStreamsFindsAndSorts(t *testing.T) {
	w := newWorld(t, false)
	for i := range rowsPerPage*3 + 1 {
		_, err := w.client.CreateStream(t.Context(), fmt.Sprintf("s%03d", i), sequin.StreamOptions{})
		require.NoError(t, err)
	}
	_, err := w.client.SendMessage(t.Context(), "s007", "a", "data")
	require.NoError(t, err)
	rows := func(path string) (names []string) {
		for _, m := range regexp.MustCompile(`<a href="/console/streams/(s\d+)">`).FindAllStringSubmatch(w.see(path), -1) {
			names = append(names, m[1])
		}
		return names
	}
	require.Len(t, rows("/console/"), rowsPerPage)
	require.Equal(t, "s000", rows("/console/")[0])
	require.Equal(t, "s150", rows("/console/?page=4")[0])
	require.Len(t, rows("/console/?page=4"), 1)
	require.Equal(t, rows("/console/?page=4"), rows("/console/?page=99"), "there is no page behind the last")
	require.Equal(t, "s007", rows("/console/?sort=messages")[0])
	require.Equal(t, "s007", rows("/console/?sort=size")[0])
	require.Equal(t, []string{"s007"}, rows("/console/?q=S007"))
	page := w.see("/console/?q=s00&sort=messages")
	require.Contains(t, page, `<th scope="col" class="num wide" aria-sort="descending"><a href="/console/?q=s00&amp;sort=messages">Messages</a>`)
	require.Contains(t, w.see("/console/?q=nothing"), "No stream has “nothing” in its name.")
	require.Contains(t, w.see("/console/"), `href="/console/?page=4">Last</a>`)
}

// A search that finds nothing says how far it came, and has a link to go on.
func TestASearchOfALargeStreamGoesOn(t *testing.T) {
	w := newWorld(t, false)
	w.orders()
	batch := make([]sequin.Message, 1000)
	for i := range batch {
		batch[i] = sequin.Message{Key: fmt.Sprint("k.", i), Data: "1"}
	}
	_, err := w.client.SendMessage(t.Context(), "orders", "first", "1")
	require.NoError(t, err)
	for range searched/len(batch) + 1 {
		_, err := w.client.SendMessages(t.Context(), "orders", batch)
		require.NoError(t, err)
	}
	_, err = w.client.SendMessage(t.Context(), "orders", "last", "1")
	require.NoError(t, err)
	for path, sought := range map[string]string{"/console/streams/orders": "first", "/console/streams/orders/consumers/billing": "last"} {
		page := w.see(path + "?pattern=" + sought)
		require.Contains(t, page, "No message of these")
		require.Contains(t, page, "Searched the seqs ")
		next := regexp.MustCompile(`href="([^"#]+)[^"]*" rel="next">Search further<`).FindStringSubmatch(page)
		require.NotNil(t, next, page)
		page = w.see(strings.ReplaceAll(next[1], "&amp;", "&"))
		require.Contains(t, page, "<bdi>"+sought+"</bdi></a>")
		require.NotContains(t, page, "Search further")
	}
	require.NotContains(t, w.see("/console/streams/orders?pattern=last&order=oldest&beyond=50000"), "Search further")
}

func TestThePageOfAStreamHasItsMessages(t *testing.T) {
	w := newWorld(t, false)
	var messages []sequin.Message
	for i := range messagesPerPage + 5 {
		messages = append(messages, sequin.Message{Key: fmt.Sprintf("orders.%d", i), Data: fmt.Sprintf(`{"n": %d}`, i), Headers: map[string]string{"trace": "t"}})
	}
	w.orders(messages...)
	seqs := func(page string) (found []string) {
		for _, m := range regexp.MustCompile(`<tr id="m-(\d+)">`).FindAllStringSubmatch(page, -1) {
			found = append(found, m[1])
		}
		return found
	}
	page := w.see("/console/streams/orders")
	require.Len(t, seqs(page), messagesPerPage)
	require.Equal(t, "55", seqs(page)[0], "the newest come first")
	require.Contains(t, page, `{&#34;n&#34;: 54}`)
	require.Contains(t, page, "1 header<")
	next := regexp.MustCompile(`href="([^"]+)#messages" rel="next"`).FindStringSubmatch(page)[1]
	require.Equal(t, []string{"5", "4", "3", "2", "1"}, seqs(w.see(strings.ReplaceAll(next, "&amp;", "&"))))
	require.Equal(t, "1", seqs(w.see("/console/streams/orders?order=oldest"))[0])
	require.Equal(t, []string{"8"}, seqs(w.see("/console/streams/orders?pattern=orders.7")))
	require.Contains(t, w.see("/console/streams/orders?pattern=a.%3E.b"), "This is not a pattern")
	require.Contains(t, w.see("/console/streams/orders?pattern=none"), "No message has a key that matches.")
	g := w.get("/console/streams/none")
	require.Equal(t, http.StatusNotFound, g.status)
	require.Contains(t, g.body, "It was deleted, or never existed.")
}

// A URL may name what no stream and no consumer can be called.
func TestANameThatCannotBeIsNotFound(t *testing.T) {
	w := newWorld(t, false)
	w.orders(sequin.Message{Key: "a", Data: "1"})
	for _, name := range []string{"none", "%2e%2e", "%2e", "a%2Fb", "%00", "%ff", "%20", strings.Repeat("x", 300)} {
		for _, path := range []string{name, name + "/message?key=a", name + "/data?key=a", name + "/purge", name + "/consumers/billing", "orders/consumers/" + name, "orders/consumers/" + name + "/redrive"} {
			g := w.get("/console/streams/" + path)
			require.Equal(t, http.StatusNotFound, g.status, path)
			require.Contains(t, g.body, "<h1>Not found</h1>\n  <p>It was deleted, or never existed.</p>", path)
		}
	}
	for _, path := range []string{"?beyond=-5", "?beyond=-5&order=oldest", "/consumers/billing?beyond=-5"} {
		require.Contains(t, w.see("/console/streams/orders"+path), "/message?key=a", path)
	}
}

// hostile is text that would do harm if it were taken for HTML, for a part of a URL, or for an instruction to the eye.
const hostile = "<script>alert(1)</script>\"' onload=x \u202e\u2066txt.exe\x1b[31m</pre></template>"

func TestTextOfMessagesIsOnlyText(t *testing.T) {
	w := newWorld(t, false)
	const key = `<script/src=//x"'&?#/%2e%2F`
	w.orders(sequin.Message{Key: key, Data: hostile, Headers: map[string]string{"h": hostile}})
	stream := w.see("/console/streams/orders")
	link := regexp.MustCompile(`<a href="(/console/streams/orders/message[^"]+)">`).FindStringSubmatch(stream)[1]
	message := w.see(strings.ReplaceAll(link, "&amp;", "&"))
	for _, page := range []string{stream, message, w.see("/console/streams/orders/consumers/billing"), w.see("/console/streams/orders?pattern=%3Cscript/src%3D")} {
		require.NotContains(t, page, "<script>alert")
		require.NotContains(t, page, "<script/")
		require.NotContains(t, page, "\u202e")
		require.NotContains(t, page, "\u2066")
		require.NotContains(t, page, "\x1b")
		require.Contains(t, page, "&lt;script/src=")
	}
	require.Contains(t, message, "&lt;script&gt;alert(1)")
	require.Contains(t, message, `\u202e\u2066txt.exe\x1b[31m&lt;/pre&gt;`, "what would not be seen is written out")
	data := regexp.MustCompile(`href="(/console/streams/orders/data[^"]+)">`).FindStringSubmatch(message)[1]
	g := w.get(strings.ReplaceAll(data, "&amp;", "&"))
	require.Equal(t, hostile, g.body)
	require.Equal(t, "text/plain; charset=utf-8", g.header.Get("Content-Type"))
	require.Contains(t, g.header.Get("Content-Disposition"), "attachment")
	require.Contains(t, g.header.Get("Content-Security-Policy"), "sandbox")
}

func TestLargeDataIsCut(t *testing.T) {
	w := newWorld(t, false)
	w.orders(sequin.Message{Key: "big", Data: strings.Repeat("é", 1<<20)}, sequin.Message{Key: "small", Data: `{"a":[1,2]}`})
	page := w.see("/console/streams/orders/message?key=big")
	require.Less(t, len(page), 2*shownData)
	require.Contains(t, page, "These are the first 66 kB of 2.1 MB.")
	require.NotContains(t, page, `\xc3`, "no character is cut in two")
	require.Less(t, len(w.see("/console/streams/orders")), 20_000)
	require.Contains(t, w.see("/console/streams/orders/message?key=small"), "{\n  &#34;a&#34;: [\n    1,\n    2\n  ]\n}")
	require.Len(t, w.get("/console/streams/orders/data?key=big").body, 2<<20)
}

func TestAMessageShowsItsStateAtEachConsumer(t *testing.T) {
	w := newWorld(t, false)
	w.orders(sequin.Message{Key: "a", Data: "1"}, sequin.Message{Key: "a", Data: "2"}, sequin.Message{Key: "b", Data: "3"})
	got, err := w.client.ReceiveMessages(t.Context(), "orders", "billing", sequin.ReceiveOptions{BatchSize: 1})
	require.NoError(t, err)
	require.Len(t, got, 1)
	first := w.see("/console/streams/orders/message?key=a&seq=1")
	require.Contains(t, first, "There is a later message of this key.")
	require.Contains(t, first, ">on lease</span>")
	require.Contains(t, first, "delivery 1, last now; the lease ends in ")
	require.Contains(t, w.see("/console/streams/orders/message?key=a&seq=2"), "waits until an earlier message of its key is settled")
	require.Contains(t, w.see("/console/streams/orders/message?key=b"), "not delivered yet")
	require.NoError(t, w.client.AckMessage(t.Context(), "orders", "billing", got[0].AckID))
	require.Contains(t, w.see("/console/streams/orders/message?key=a&seq=1"), ">acked</span>")
	_, err = w.client.PurgeStream(t.Context(), "orders", sequin.PurgeOptions{BeforeSeq: 2})
	require.NoError(t, err)
	g := w.get("/console/streams/orders/message?key=a&seq=1")
	require.Equal(t, http.StatusNotFound, g.status)
	require.Contains(t, g.body, "The newest message of its key has the seq 2.")
}

func TestAPageOffersWhatATokenMayDo(t *testing.T) {
	w := newWorld(t, true)
	w.orders(sequin.Message{Key: "a", Data: "1"})
	_, err := w.client.ReceiveMessages(t.Context(), "orders", "billing", sequin.ReceiveOptions{})
	require.NoError(t, err)
	w.login(readToken)
	require.NotContains(t, w.see("/console/streams/orders/consumers/billing"), `type="checkbox"`)
	for _, path := range []string{"/console/", "/console/streams/orders", "/console/streams/orders/consumers/billing"} {
		page := w.see(path)
		for _, offered := range []string{"new-stream", "/send", "/purge", "/delete", "new-consumer", "/redrive"} {
			require.NotContains(t, page, offered+`"`, path)
		}
	}
	for _, action := range []string{"/console/new-stream", "/console/streams/orders/send", "/console/streams/orders/consumers/billing/nack"} {
		g := w.get(action)
		require.Equal(t, http.StatusForbidden, g.status, action)
		require.Contains(t, g.body, "Your token has the rights read, and this needs ")
	}
	w.browse()
	w.login(adminToken)
	require.Contains(t, w.see("/console/streams/orders"), "/console/streams/orders/purge")
	require.Contains(t, w.see("/console/streams/orders/consumers/billing"), `type="checkbox"`)
}

// The events are what the page shows, each time that it is another.
func TestAPageFollowsByEvents(t *testing.T) {
	w := newWorld(t, false)
	w.console.every = 0
	w.orders()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	resp, err := w.browser.Do(w.request(http.MethodGet, "/console/streams/orders", nil, "Accept", eventType).WithContext(ctx))
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, eventType, resp.Header.Get("Content-Type"))
	lines := bufio.NewScanner(resp.Body)
	wait := func(text string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), text) {
				return
			}
		}
		t.Fatalf("the events ended without %q: %v", text, lines.Err())
	}
	wait("event: live")
	wait("There are no messages.")
	_, err = w.client.SendMessage(t.Context(), "orders", "orders.1", "first line\nsecond line")
	require.NoError(t, err)
	wait("orders.1")
	require.NoError(t, w.client.DeleteStream(t.Context(), "orders"))
	wait("event: gone")
}

func TestAPageThatGetsNoAnswerSaysSo(t *testing.T) {
	w := newWorld(t, false)
	w.console.every = 0
	w.orders()
	resp, err := w.browser.Do(w.request(http.MethodGet, "/console/streams/orders?pattern=none", nil, "Accept", eventType))
	require.NoError(t, err)
	defer resp.Body.Close()
	w.api.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() && lines.Text() != "event: problem" {
	}
	require.True(t, lines.Scan())
	require.Equal(t, "data: The server cannot answer", lines.Text())
}

// While its store is down the server answers, but not what was asked. That is no refusal.
func TestAPageOfAStoreThatIsDownSaysSo(t *testing.T) {
	w := newWorld(t, false)
	w.orders()
	form := w.see("/console/new-stream")
	status, summary := http.StatusServiceUnavailable, "The store cannot serve requests: no connection. Nothing was changed"
	w.console.Use(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"summary":%q}`, summary)
	}))
	token := formTokenField.FindStringSubmatch(form)[1]
	for _, g := range []got{w.get("/console/"), w.get("/console/streams/orders"), w.post("/console/new-stream", url.Values{"form_token": {token}, "name": {"new"}})} {
		require.Equal(t, http.StatusServiceUnavailable, g.status)
		require.Contains(t, g.body, "<h1>The server cannot answer</h1>")
		require.Contains(t, g.body, summary)
	}
	status, summary = http.StatusForbidden, "The token may not read"
	require.Contains(t, w.get("/console/").body, "<h1>The server has refused this</h1>")
}

func TestCloseEndsTheEvents(t *testing.T) {
	w := newWorld(t, false)
	resp, err := w.browser.Do(w.request(http.MethodGet, "/console/", nil, "Accept", eventType))
	require.NoError(t, err)
	defer resp.Body.Close()
	w.console.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
	}
	require.NoError(t, lines.Err(), "the events end as they should")
	require.NoError(t, w.api.Drain(t.Context()))
}

func TestALoginThatEndsEndsTheEvents(t *testing.T) {
	w := newWorld(t, true)
	w.console.every = 0
	w.login(adminToken)
	resp, err := w.browser.Do(w.request(http.MethodGet, "/console/", nil, "Accept", eventType))
	require.NoError(t, err)
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	require.True(t, lines.Scan())
	w.revoked.Store(true)
	over := false
	for lines.Scan() {
		over = over || lines.Text() == "event: over"
	}
	require.True(t, over)
}

// The server of 2024 has no metrics, no paging and no purge. Its pages show less.
func TestPagesOfTheServerOf2024ShowLess(t *testing.T) {
	w := newWorldOf(t, false, server.Aug2024)
	require.Contains(t, w.did("/console/new-stream", "name", "orders"), "The stream was created.")
	require.Contains(t, w.did("/console/streams/orders/new-consumer", "name", "billing", "filter_key_pattern", ">"), "The consumer was created.")
	page := w.did("/console/streams/orders/send", "key", "orders.1", "data", "1")
	require.Contains(t, page, "orders.1")
	require.NotContains(t, page, "/purge")
	require.Contains(t, page, "the newest message of each key")
	require.Contains(t, w.see("/console/"), "orders")
	require.Contains(t, w.see("/console/streams/orders?pattern=orders.*"), "orders.1")
	require.Contains(t, w.see("/console/streams/orders/consumers/billing"), "not delivered yet")
	require.Contains(t, w.see("/console/streams/orders/consumers/billing?pattern=orders.*"), "not delivered yet")
	page = w.see("/console/streams/orders/message?key=orders.1&seq=1")
	require.Contains(t, page, "billing")
	w.did("/console/streams/orders/send", "key", "orders.1", "data", "2")
	require.Contains(t, w.get("/console/streams/orders/message?key=orders.1&seq=1").body, "This message is gone")
	require.Contains(t, w.did("/console/streams/orders/delete", "confirm", "orders"), "The stream was deleted.")
}
