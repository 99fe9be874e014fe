//go:build linux && (amd64 || arm64)

// Package browsertest shows pages in a headless Chromium, for tests.
package browsertest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// patience is how long a test waits for what should happen at once.
const patience = 30 * time.Second

// browser is the browser of all tabs of a process.
var browser struct {
	once sync.Once
	ctx  context.Context
	stop func()
	err  error
}

// Stop ends the browser. TestMain calls it after the tests.
func Stop() {
	if browser.stop != nil {
		browser.stop()
	}
}

// start starts a browser with a profile of its own.
func start() {
	path, err := exec.LookPath("chromium")
	if err != nil {
		browser.err = fmt.Errorf("chromium is not installed: %w", err)
		return
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU)
	allocated, stopProcess := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, stopBrowser := chromedp.NewContext(allocated)
	browser.ctx, browser.stop = ctx, func() {
		stopBrowser()
		stopProcess()
	}
	browser.err = chromedp.Do(ctx)
}

// Tab is a tab of the browser, without the cookies of other tabs.
type Tab struct {
	t   *testing.T
	url string
	ctx context.Context

	mu   sync.Mutex
	told []string
}

// Open opens a tab for the server at a URL. The test fails at its end if the browser has reported an error that Told has not
// returned.
func Open(t *testing.T, url string) *Tab {
	browser.once.Do(start)
	if browser.err != nil {
		require.Empty(t, os.Getenv("CI"), browser.err)
		t.Skip(browser.err)
	}
	b := &Tab{t: t, url: url}
	ctx, closeTab := chromedp.NewContext(browser.ctx, chromedp.WithNewBrowserContext())
	ctx, cancel := context.WithTimeout(ctx, 8*patience)
	t.Cleanup(func() {
		cancel()
		closeTab()
	})
	b.ctx = ctx
	require.NoError(t, chromedp.Listen(ctx, b.listen))
	_, err := chromedp.Call(ctx, log.Enable, cdp.Empty{})
	require.NoError(t, err)
	t.Cleanup(func() { require.Empty(t, b.Told(), "the console of the browser") })
	return b
}

// listen keeps what the browser reports: exceptions and calls of console, what the policy of a page refuses, what cannot be
// loaded, and dialogs.
func (b *Tab) listen(event any) {
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
	case *page.EventJavascriptDialogOpening:
		text = "a dialog: " + e.Message
	default:
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told = append(b.told, text)
}

// Told returns what the browser has reported, and forgets it.
func (b *Tab) Told() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	told := b.told
	b.told = nil
	return told
}

// Run runs actions.
func (b *Tab) Run(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	require.NoError(b.t, chromedp.Do(b.ctx, actions...))
}

// Show shows the page at a path.
func (b *Tab) Show(path string) {
	b.t.Helper()
	b.Run(chromedp.Navigate(b.url+path), chromedp.WaitVisible(chromedp.CSS("body")))
}

// Eventually waits until an expression is true. Meanwhile the page may be replaced by another one.
func (b *Tab) Eventually(expression string) {
	b.t.Helper()
	for end := time.Now().Add(patience); ; <-time.After(20 * time.Millisecond) {
		ok, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool]("!!("+expression+")"))
		if ok {
			return
		}
		if time.Now().After(end) {
			text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.body.innerText"))
			b.t.Fatalf("%s: %v, on the page %s", expression, err, text)
		}
	}
}

// Eval returns the value of an expression, or what its promise is kept with.
func Eval[T any](b *Tab, expression string) T {
	b.t.Helper()
	value, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	require.NoError(b.t, err, expression)
	return value
}

// Script runs a script, which the policy of the page does not forbid.
func (b *Tab) Script(script string) {
	b.t.Helper()
	b.Run(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, runtime.Evaluate, runtime.EvaluateParams{Expression: script})
		return err
	}))
}

// Look sets the size of the screen, and whether the system is "light" or "dark".
func (b *Tab) Look(width, height int64, scheme string) {
	b.t.Helper()
	b.Run(chromedp.EmulateViewport(width, height), chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	}))
}

// Picture returns what the screen shows, as PNG.
func (b *Tab) Picture() []byte {
	b.t.Helper()
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	require.NoError(b.t, err)
	return png
}

// Press presses keys, one after the other.
func (b *Tab) Press(keys string) {
	b.t.Helper()
	b.Run(chromedp.KeyEvent(keys))
}

// Focus focuses the element of a CSS selector.
func (b *Tab) Focus(selector string) {
	b.t.Helper()
	b.Run(chromedp.Focus(chromedp.CSS(selector)))
}

// Click clicks the element of a CSS selector.
func (b *Tab) Click(selector string) {
	b.t.Helper()
	b.Run(chromedp.Click(chromedp.CSS(selector)))
}
