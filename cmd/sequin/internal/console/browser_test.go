//go:build linux && (amd64 || arm64)

package console

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
)

// patience is how long a test waits for what should happen at once.
const patience = 30 * time.Second

// chrome is the browser of all tests of this file.
var chrome struct {
	once sync.Once
	ctx  context.Context
	stop func()
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if chrome.stop != nil {
		chrome.stop()
	}
	os.Exit(code)
}

// startChrome starts a browser with a profile of its own.
func startChrome() {
	path, err := exec.LookPath("chromium")
	if err != nil {
		chrome.err = fmt.Errorf("chromium is not installed: %w", err)
		return
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WSURLReadTimeout(2*patience))
	allocated, stopProcess := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, stopBrowser := chromedp.NewContext(allocated)
	chrome.ctx, chrome.stop = ctx, func() {
		stopBrowser()
		stopProcess()
	}
	chrome.err = chromedp.Do(ctx)
}

// tab is a tab of the browser.
type tab struct {
	w   *world
	ctx context.Context

	mu       sync.Mutex
	problems []string // what the browser has written to its console
}

// openTab opens a tab that shows a server.
func openTab(t *testing.T, tokens bool) *tab {
	chrome.once.Do(startChrome)
	if chrome.err != nil {
		require.Empty(t, os.Getenv("CI"), chrome.err)
		t.Skip(chrome.err)
	}
	b := &tab{w: newWorld(t, tokens)}
	ctx, closeTab := chromedp.NewContext(chrome.ctx, chromedp.WithNewBrowserContext())
	ctx, cancel := context.WithTimeout(ctx, 4*patience)
	t.Cleanup(func() {
		cancel()
		closeTab()
	})
	b.ctx = ctx
	require.NoError(t, chromedp.Listen(ctx, b.listen))
	_, err := chromedp.Call(ctx, log.Enable, cdp.Empty{})
	require.NoError(t, err)
	t.Cleanup(func() { require.Empty(t, b.told(), "the console of the browser") })
	return b
}

// listen keeps errors and warnings of the browser: of scripts, of the policy, and of what cannot be loaded.
func (b *tab) listen(event any) {
	text := ""
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		text = e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += " " + e.ExceptionDetails.Exception.Description
		}
	case *runtime.EventConsoleAPICalled:
		text = "console." + string(e.Type)
	case *log.EventEntryAdded:
		text = e.Entry.Text + " " + e.Entry.URL
	case *cdppage.EventJavascriptDialogOpening:
		text = "a dialog: " + e.Message
	default:
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, text)
}

// told returns what the browser has written to its console, and forgets it.
func (b *tab) told() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	told := b.problems
	b.problems = nil
	return told
}

func (b *tab) run(actions ...chromedp.Action[chromedp.Void]) {
	b.w.t.Helper()
	require.NoError(b.w.t, chromedp.Do(b.ctx, actions...))
}

// open shows a page, at once with its events.
func (b *tab) open(path string) {
	b.w.t.Helper()
	b.run(chromedp.Navigate(b.w.web.URL+path), chromedp.WaitVisible(chromedp.CSS("#main")))
}

// eventually waits until an expression is true. Meanwhile the page may be replaced by another one.
func (b *tab) eventually(expression string) {
	b.w.t.Helper()
	for end := time.Now().Add(patience); ; <-time.After(20 * time.Millisecond) {
		ok, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool]("!!("+expression+")"))
		if ok {
			return
		}
		if time.Now().After(end) {
			html, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.body.innerText"))
			b.w.t.Fatalf("%s: %v, on the page %s", expression, err, html)
		}
	}
}

// eval returns the value of an expression.
func eval[T any](b *tab, expression string) T {
	b.w.t.Helper()
	value, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	require.NoError(b.w.t, err, expression)
	return value
}

// do runs a script.
func (b *tab) do(script string) {
	b.w.t.Helper()
	b.run(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, runtime.Evaluate, runtime.EvaluateParams{Expression: script})
		return err
	}))
}

// look sets the width of the screen, and whether the system is light or dark.
func (b *tab) look(width int64, scheme string) {
	b.w.t.Helper()
	b.run(chromedp.EmulateViewport(width, 800), chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	}))
}

// hasText is an expression that is true when the changing part of a page has a text.
func hasText(text string) string {
	return fmt.Sprintf("document.getElementById('live').innerText.includes(%q)", text)
}

// fill makes a server that has something to show: a consumer that works, one that nobody receives from, and hostile messages.
func (b *tab) fill() (key string) {
	key = `<img/src=x/onerror=alert(1)//"'&`
	b.w.orders(
		sequin.Message{Key: "orders.eu.1", Data: `{"qty": 4, "item": "lamp"}`, Headers: map[string]string{"trace": "00-1"}},
		sequin.Message{Key: key, Data: hostile + "<img src=x onerror=alert(2)>"},
		sequin.Message{Key: "large", Data: strings.Repeat("<b>0123456789</b>", 60_000)},
	)
	ctx := b.w.t.Context()
	_, err := b.w.client.CreateConsumer(ctx, "orders", "shipping", "orders.>", sequin.ConsumerOptions{})
	require.NoError(b.w.t, err)
	_, err = b.w.client.ReceiveMessages(ctx, "orders", "billing", sequin.ReceiveOptions{BatchSize: 2})
	require.NoError(b.w.t, err)
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
	b := openTab(t, false)
	key := b.fill()
	for _, path := range pages(key) {
		b.open(path)
		if eval[bool](b, "!!document.getElementById('pause')") {
			b.eventually("document.getElementById('state').textContent === 'Live'")
		}
		told := b.told()
		if strings.HasSuffix(path, "no-such-page") {
			require.Len(t, told, 1, "the browser tells the 404")
			continue
		}
		require.Empty(t, told, path)
		require.Zero(t, eval[int](b, "document.querySelectorAll('#main img, #main script, #main b').length"), path)
	}
}

//go:embed testdata/axe.min.js
var axe string

// axeRun is a script that returns the findings of axe that keep people out: those it calls serious or critical.
const axeRun = `axe.run(%s).then(r => r.violations.filter(v => v.impact === "serious" || v.impact === "critical")
	.flatMap(v => v.nodes.map(n => v.id + ": " + n.html + " " + n.failureSummary)))`

func TestPagesCanBeUsedByEveryone(t *testing.T) {
	b := openTab(t, true)
	key := b.fill()
	check := func(path, rules string) {
		b.open(path)
		b.do(axe)
		require.Empty(t, eval[[]string](b, fmt.Sprintf(axeRun, rules)), path)
		require.LessOrEqual(t, eval[int](b, "document.documentElement.scrollWidth"), 360, "%s is wider than the screen", path)
		b.told()
	}
	b.look(360, "light")
	check("/console/login", "")
	b.run(chromedp.SendKeys(chromedp.CSS("#token"), adminToken+"\r"))
	b.eventually("location.pathname === '/console/'")
	for _, path := range pages(key) {
		check(path, "")
	}
	b.look(360, "dark") // which differs by its colours
	for _, path := range pages(key)[:4] {
		check(path, `{runOnly: ["color-contrast"]}`)
	}
}

func TestAMessageShowsSoonAndNothingElseChanges(t *testing.T) {
	b := openTab(t, false)
	b.fill()
	b.open("/console/streams/orders")
	b.eventually("document.getElementById('state').textContent === 'Live'")
	b.run(chromedp.SendKeys(chromedp.CSS("#pattern"), "half a patt"))
	b.do(`window.same = document.querySelector("#m-1 a")`)
	sent := time.Now()
	_, err := b.w.client.SendMessage(t.Context(), "orders", "orders.eu.2", `{"fresh": true}`)
	require.NoError(t, err)
	b.eventually(hasText("orders.eu.2"))
	t.Logf("the message showed after %v", time.Since(sent))
	require.Equal(t, "half a patt", eval[string](b, "document.activeElement.value"), "the focus and what was typed stay")
	require.True(t, eval[bool](b, `window.same === document.querySelector("#m-1 a") && window.same.isConnected`), "what stays is the same element")
	require.Equal(t, "m-4", eval[string](b, "document.querySelector('#messages ~ .card tbody tr').id"), "the newest is at the top")

	b.run(chromedp.Click(chromedp.CSS("#pause")))
	b.eventually("document.getElementById('state').textContent === 'Paused'")
	_, err = b.w.client.SendMessage(t.Context(), "orders", "orders.eu.3", `1`)
	require.NoError(t, err)
	b.run(chromedp.Click(chromedp.CSS("#pause")))
	b.eventually(hasText("orders.eu.3"))
	require.NoError(t, b.w.client.DeleteStream(t.Context(), "orders"))
	b.eventually("document.querySelector('h1').textContent === 'Not found'")
	require.Len(t, b.told(), 1, "the browser tells the 404")
}

// A person without a mouse logs in, creates a stream, sends a message, and deletes the stream.
func TestActionsWorkWithTheKeyboard(t *testing.T) {
	b := openTab(t, true)
	b.open("/console/")
	tab := func(n int) { b.run(chromedp.KeyEvent(strings.Repeat("\t", n))) }
	focused := func() string {
		return eval[string](b, "document.activeElement.textContent.trim() || document.activeElement.id")
	}
	press := func(text string) {
		for range 40 {
			if focused() == text {
				b.run(chromedp.KeyEvent("\r"))
				return
			}
			tab(1)
		}
		t.Fatalf("%q cannot be reached with the tabulator", text)
	}
	require.Equal(t, "token", focused())
	b.run(chromedp.KeyEvent(adminToken + "\r"))
	b.eventually("document.title.startsWith('Streams')")
	press("Skip to the content")
	require.Equal(t, "main", eval[string](b, "document.activeElement.id"))
	press("New stream")
	b.eventually("document.title.startsWith('New stream')")
	b.run(chromedp.Focus(chromedp.CSS("#name")), chromedp.KeyEvent("orders\r"))
	b.eventually("document.title.startsWith('orders')")
	require.Contains(t, eval[string](b, "document.querySelector('[role=status]').textContent"), "The stream was created.")
	press("Send a message")
	b.eventually("document.title.startsWith('Send')")
	b.run(chromedp.Focus(chromedp.CSS("#key")), chromedp.KeyEvent("orders.1\r"))
	b.eventually("!!document.querySelector('#m-1')")
	press("Delete")
	b.eventually("document.title.startsWith('Delete')")
	b.run(chromedp.Focus(chromedp.CSS("#confirm")), chromedp.KeyEvent("orders\r"))
	b.eventually("document.querySelector('[role=status]')?.textContent === 'The stream was deleted.'")
	press("Log out")
	b.eventually("document.title.startsWith('Log in')")
	b.open("/console/streams/orders")
	require.Equal(t, "/console/login", eval[string](b, "location.pathname"))
}

// With SEQUIN_SCREENSHOTS a directory gets pictures of the pages, for people.
func TestScreenshots(t *testing.T) {
	dir := os.Getenv("SEQUIN_SCREENSHOTS")
	if dir == "" {
		t.Skip("for people: set SEQUIN_SCREENSHOTS")
	}
	b := openTab(t, false)
	stop := b.bustle()
	defer stop()
	for _, shot := range []struct {
		name, path, look string
		width            int64
	}{
		{"streams", "/console/", "light", 1280}, {"streams", "/console/", "dark", 1280}, {"streams", "/console/", "light", 360},
		{"stream", "/console/streams/orders", "light", 1280}, {"stream", "/console/streams/orders", "dark", 360},
		{"consumer", "/console/streams/orders/consumers/mail", "dark", 1280}, {"consumer", "/console/streams/orders/consumers/mail", "light", 360},
		{"message", "/console/streams/orders/message?key=orders.eu.1", "light", 1280},
		{"send", "/console/streams/orders/send", "light", 1280}, {"delete", "/console/streams/orders/delete", "dark", 360},
	} {
		b.look(shot.width, shot.look)
		b.open(shot.path)
		if shot.name == "streams" || shot.name == "stream" || shot.name == "consumer" {
			b.eventually(`document.querySelector(".tile .spark .line")?.getAttribute("d").split("L").length > 6`)
		}
		png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%s-%d.png", shot.name, shot.look, shot.width)), png, 0o600))
	}
}
