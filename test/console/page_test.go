package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// tab is a page of the console in a window of its own. A test fails on an error in its console, on a report of its policy,
// on a question of the browser's and on a request to another host.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	trouble  []string
	allowed  []string // parts of what a test expects
	requests int
}

// opens a window that nobody has logged in to.
func newTab(t *testing.T) *tab {
	t.Helper()
	p := &tab{t: t}
	ctx, cancel := chromedp.NewContext(tabs, chromedp.WithNewBrowserContext(), chromedp.WithListener(p.saw))
	p.ctx = ctx
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			p.tell()
		}
		cancel()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, line := range p.trouble {
			t.Errorf("the browser says: %s", line)
		}
	})
	return p
}

func (p *tab) saw(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning || e.Type == runtime.ConsoleAPICalledTypeAssert {
			var words []string
			for _, a := range e.Args {
				words = append(words, string(a.Value)+a.Description)
			}
			p.note(strings.Join(words, " "))
		}
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if x := e.ExceptionDetails.Exception; x != nil {
			text += " " + x.Description
		}
		p.note(text)
	case *cdplog.EventEntryAdded:
		if e.Entry.Level == cdplog.EntryLevelError || e.Entry.Level == cdplog.EntryLevelWarning || e.Entry.Source == cdplog.EntrySourceSecurity {
			p.note(e.Entry.Text + " " + e.Entry.URL)
		}
	case *page.EventJavascriptDialogOpening:
		p.note("a dialog: " + e.Message)
		go func() { _, _ = chromedp.Call(p.ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{}) }()
	case *network.EventRequestWillBeSent:
		p.requests++
		u, err := url.Parse(e.Request.URL)
		if err != nil || u.Scheme != "blob" && u.Hostname() != "127.0.0.1" && u.String() != "about:blank" {
			p.note("a request to " + e.Request.URL)
		}
	}
}

// note keeps what is not expected. The caller holds the lock.
func (p *tab) note(text string) {
	if !slices.ContainsFunc(p.allowed, func(a string) bool { return strings.Contains(text, a) }) {
		p.trouble = append(p.trouble, text)
	}
}

// allow expects a text among what the browser says.
func (p *tab) allow(text ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.allowed = append(p.allowed, text...)
}

// tell prints what a test that failed had before it.
func (p *tab) tell() {
	text, _ := chromedp.Run(p.ctx, chromedp.Evaluate[string](`document.body.innerText.slice(0, 3000)`))
	hash, _ := chromedp.Run(p.ctx, chromedp.Evaluate[string](`location.hash`))
	p.t.Logf("the page %s shows:\n%s", hash, text)
}

func (p *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := patient(p.ctx)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.t.Fatal(err)
	}
}

// run runs a script.
func (p *tab) run(script string) {
	p.t.Helper()
	p.do(chromedp.Evaluate[chromedp.Void](script))
}

// patient bounds something by the patience of all waits.
func patient(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, patience)
}

// eval returns what an expression is.
func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	ctx, cancel := patient(p.ctx)
	defer cancel()
	out, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return out
}

// until waits for an expression to be true.
func (p *tab) until(expression string) {
	p.t.Helper()
	err := until(p.ctx, func() error {
		is, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool]("Boolean("+expression+")"))
		if err == nil && !is {
			err = errors.New("not yet")
		}
		return err
	})
	if err != nil {
		p.t.Fatalf("waiting for %s: %v", expression, err)
	}
}

func quoted(s string) string { b, _ := json.Marshal(s); return string(b) }

// shows waits for a text somewhere in what a selector finds.
func (p *tab) shows(selector, text string) {
	p.t.Helper()
	p.until(fmt.Sprintf(`[...document.querySelectorAll(%s)].some((e) => e.innerText.includes(%s))`, quoted(selector), quoted(text)))
}

// gone waits until no such text is left.
func (p *tab) gone(selector, text string) {
	p.t.Helper()
	p.until(fmt.Sprintf(`![...document.querySelectorAll(%s)].some((e) => e.innerText.includes(%s))`, quoted(selector), quoted(text)))
}

// click clicks the first that a selector finds with a text in it, when it is there and may be clicked.
func (p *tab) click(selector, text string) {
	p.t.Helper()
	p.until(fmt.Sprintf(`(() => { const e = [...document.querySelectorAll(%s)].find((e) => (e.innerText || e.ariaLabel || '').includes(%s) && !e.disabled && e.checkVisibility());
		if (e) e.click(); return e; })()`, quoted(selector), quoted(text)))
}

// fill types into a field as somebody would who replaces what is there.
func (p *tab) fill(selector, text string) {
	p.t.Helper()
	p.until(fmt.Sprintf(`document.querySelector(%s)`, quoted(selector)))
	p.run(fmt.Sprintf(`{ const e = document.querySelector(%s); e.focus(); e.value = %s; e.dispatchEvent(new Event('input', {bubbles: true})); e.dispatchEvent(new Event('change', {bubbles: true})) }`,
		quoted(selector), quoted(text)))
}

// press presses keys, one after the other.
func (p *tab) press(keys ...string) {
	p.t.Helper()
	for _, k := range keys {
		for _, r := range k {
			p.do(key(r))
		}
	}
}

// key presses one key as a keyboard does: a page that takes it keeps it out of the field.
func key(r rune) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		events := kb.Encode(r)
		down := *events[0]
		for _, e := range events {
			if e.Type == kb.KeyChar {
				down.Type, down.Text, down.UnmodifiedText = kb.KeyDown, e.Text, e.UnmodifiedText
			}
		}
		for _, e := range []input.DispatchKeyEventParams{down, *events[len(events)-1]} {
			if _, err := cdp.Call(ctx, t, input.DispatchKeyEvent, e); err != nil {
				return err
			}
		}
		return nil
	})
}

const (
	enter  = kb.Enter
	escape = kb.Escape
	tabKey = kb.Tab
)

// visit goes to a page of the console by its hash.
func (p *tab) visit(hash string) {
	p.t.Helper()
	p.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`new Promise((done) => {
		if (location.hash === %[1]s) return done();
		addEventListener('hashchange', () => done(), { once: true });
		location.hash = %[1]s;
	})`, quoted(hash)), chromedp.EvalAwaitPromise))
}

// open logs in with a link, and waits for the overview.
func (s *site) open(t *testing.T, operator bool) *tab {
	t.Helper()
	p := newTab(t)
	p.do(chromedp.Navigate(s.login(t, operator)))
	p.shows(".card h2", "Cloud link")
	p.until(`!location.hash.includes("login")`)
	return p
}

// drawn ends when a frame is drawn, so that what was asked for stands on the page.
func (p *tab) drawn() {
	p.t.Helper()
	p.do(chromedp.Evaluate[chromedp.Void](`new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))`, chromedp.EvalAwaitPromise))
}
