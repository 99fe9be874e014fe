//go:build linux && (amd64 || arm64)

package console

import (
	_ "embed"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/browsertest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	browsertest.Stop()
	os.Exit(code)
}

// openTab starts a server and opens a tab for it.
func openTab(t *testing.T, tokens bool) (*world, *browsertest.Tab) {
	w := newWorld(t, tokens)
	return w, browsertest.Open(t, w.web.URL)
}

// isLive is an expression that is true when a page follows by events.
const isLive = "document.getElementById('state').textContent === 'Live'"

// hasText is an expression that is true when the changing part of a page has a text.
func hasText(text string) string {
	return fmt.Sprintf("document.getElementById('live').innerText.includes(%q)", text)
}

// fill makes something to show: messages on lease, a consumer from which nobody receives, and hostile messages.
func (w *world) fill() (key string) {
	key = `<img/src=x/onerror=alert(1)//"'&`
	w.orders(
		sequin.Message{Key: "orders.eu.1", Data: `{"qty": 4, "item": "lamp"}`, Headers: map[string]string{"trace": "00-1"}},
		sequin.Message{Key: key, Data: hostile + "<img src=x onerror=alert(2)>"},
		sequin.Message{Key: "large", Data: strings.Repeat("<b>0123456789</b>", 60_000)},
	)
	_, err := w.client.CreateConsumer(w.t.Context(), "orders", "shipping", "orders.>", sequin.ConsumerOptions{})
	require.NoError(w.t, err)
	_, err = w.client.ReceiveMessages(w.t.Context(), "orders", "billing", sequin.ReceiveOptions{BatchSize: 2})
	require.NoError(w.t, err)
	return key
}

// pages are the paths of one page of each kind.
func pages(key string) []string {
	const stream, consumer = "/console/streams/orders", "/console/streams/orders/consumers/billing"
	return []string{
		"/console/", stream, consumer, messageURL("orders", key, 2), messageURL("orders", "large", 3), "/console/new-stream", stream + "/new-consumer",
		stream + "/send", stream + "/purge", consumer + "/delete", stream + "?pattern=%3E.a", stream + "/no-such-page",
	}
}

func TestPagesLoadWithoutErrorsOfTheBrowser(t *testing.T) {
	w, b := openTab(t, false)
	for _, path := range pages(w.fill()) {
		b.Show(path)
		if browsertest.Eval[bool](b, "!!document.getElementById('pause')") {
			b.Eventually(isLive)
		}
		told := b.Told()
		if strings.HasSuffix(path, "no-such-page") {
			require.Len(t, told, 1, "the browser tells the 404")
			continue
		}
		require.Empty(t, told, path)
		require.Zero(t, browsertest.Eval[int](b, "document.querySelectorAll('#main img, #main script, #main b').length"), path)
	}
}

//go:embed testdata/axe.min.js
var axe string

// axeRun is a script that returns the findings of axe that keep people out: those it calls serious or critical.
const axeRun = `axe.run(%s).then(r => r.violations.filter(v => v.impact === "serious" || v.impact === "critical")
	.flatMap(v => v.nodes.map(n => v.id + ": " + n.html + " " + n.failureSummary)))`

func TestPagesCanBeUsedByEveryone(t *testing.T) {
	w, b := openTab(t, true)
	key := w.fill()
	check := func(path, rules string) {
		b.Show(path)
		b.Script(axe)
		require.Empty(t, browsertest.Eval[[]string](b, fmt.Sprintf(axeRun, rules)), path)
		require.LessOrEqual(t, browsertest.Eval[int](b, "document.documentElement.scrollWidth"), 360, "%s is wider than the screen", path)
		require.True(t, browsertest.Eval[bool](b, `[...document.querySelectorAll(".list")].every(list => list.scrollWidth <= list.parentElement.clientWidth)`), "a table of %s is wider than the screen", path)
		b.Told()
	}
	b.Look(360, 740, "light")
	check("/console/login", "")
	b.Press(adminToken + "\r")
	b.Eventually("location.pathname === '/console/'")
	for _, path := range pages(key) {
		check(path, "")
	}
	b.Look(360, 740, "dark") // which differs by its colours
	for _, path := range pages(key)[:4] {
		check(path, `{runOnly: ["color-contrast"]}`)
	}
}

func TestAMessageShowsSoonAndNothingElseChanges(t *testing.T) {
	w, b := openTab(t, false)
	w.fill()
	b.Show("/console/streams/orders")
	b.Eventually(isLive)
	b.Focus("#pattern")
	b.Press("half a patt")
	b.Script(`window.same = document.querySelector("#m-1 a")`)
	sent := time.Now()
	_, err := w.client.SendMessage(t.Context(), "orders", "orders.eu.2", `{"fresh": true}`)
	require.NoError(t, err)
	b.Eventually(hasText("orders.eu.2"))
	t.Logf("the message showed after %v", time.Since(sent))
	require.Equal(t, "half a patt", browsertest.Eval[string](b, "document.activeElement.value"), "the focus and what was typed stay")
	require.True(t, browsertest.Eval[bool](b, `window.same === document.querySelector("#m-1 a") && window.same.isConnected`), "what stays is the same element")
	require.Equal(t, "m-4", browsertest.Eval[string](b, "document.querySelector('#messages ~ .card tbody tr').id"), "the newest is at the top")

	b.Click("#pause")
	b.Eventually("document.getElementById('state').textContent === 'Paused'")
	b.Click("#pause")
	_, err = w.client.SendMessage(t.Context(), "orders", "orders.eu.3", `1`)
	require.NoError(t, err)
	b.Eventually(hasText("orders.eu.3"))
	require.NoError(t, w.client.DeleteStream(t.Context(), "orders"))
	b.Eventually("document.querySelector('h1').textContent === 'Not found'")
	require.Len(t, b.Told(), 1, "the browser tells the 404")
}

// A person without a mouse logs in, creates a stream, sends a message, deletes the stream, and logs out.
func TestActionsWorkWithTheKeyboard(t *testing.T) {
	_, b := openTab(t, true)
	b.Show("/console/")
	focused := func() string {
		return browsertest.Eval[string](b, "document.activeElement.textContent.trim() || document.activeElement.id")
	}
	choose := func(text string) {
		for range 40 { // more than a page has
			if focused() == text {
				b.Press("\r")
				return
			}
			b.Press("\t")
		}
		t.Fatalf("%q cannot be reached with the tabulator", text)
	}
	require.Equal(t, "token", focused())
	b.Press(adminToken + "\r")
	b.Eventually("document.title.startsWith('Streams')")
	choose("Skip to the content")
	b.Eventually("document.activeElement.id === 'main'")
	choose("New stream")
	b.Eventually("document.title.startsWith('New stream')")
	b.Focus("#name")
	b.Press("orders\r")
	b.Eventually("document.title.startsWith('orders')")
	require.Contains(t, browsertest.Eval[string](b, "document.querySelector('[role=status]').textContent"), "The stream was created.")
	choose("Send a message")
	b.Eventually("document.title.startsWith('Send')")
	b.Focus("#key")
	b.Press("orders.1\r")
	b.Eventually("document.querySelector('#m-1')")
	choose("Delete")
	b.Eventually("document.title.startsWith('Delete')")
	b.Focus("#confirm")
	b.Press("orders\r")
	b.Eventually("document.querySelector('[role=status]')?.textContent === 'The stream was deleted.'")
	choose("Log out")
	b.Eventually("document.title.startsWith('Log in')")
	b.Show("/console/streams/orders")
	require.Equal(t, "/console/login", browsertest.Eval[string](b, "location.pathname"))
}
