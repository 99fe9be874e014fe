package console

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/overview"
	"github.com/sequin-go/sequin/server"
)

// visit is one request of somebody who may use the console.
type visit struct {
	console *Console
	w       http.ResponseWriter
	r       *http.Request
	now     time.Time
	rights  server.Rights
	secret  string // of the forms
	client  *sequin.Client
	watch   *overview.Watcher
}

// page is what a request is answered with.
type page struct {
	title  string
	crumbs []crumb // the pages above this one
	name   string  // of the template
	data   any
	live   bool // the block "live" of the template follows by events
	status int  // 0 for 200
}

// crumb is a link to a page above.
type crumb struct{ Name, URL string }

// newVisit is a visit of somebody who may see nothing yet.
func (c *Console) newVisit(w http.ResponseWriter, r *http.Request) *visit {
	v := &visit{console: c, w: w, r: r, now: time.Now()}
	fresh := false
	if v.secret, fresh = formSecret(r); fresh {
		setCookie(w, r, formCookie, v.secret)
	}
	return v
}

// admit finds out who asks. It returns false if nobody does that may use the console.
func (v *visit) admit() bool {
	c, token := v.console, ""
	v.rights = server.AllRights
	if c.cfg.Rights != nil {
		var ok bool
		if token, ok = c.unseal(cookie(v.r, sessionCookie), v.now); !ok {
			return false
		}
		if v.rights = c.cfg.Rights(token); v.rights == 0 {
			return false
		}
	}
	a := c.of(token, v.now)
	v.client, v.watch = a.client, a.watch
	return true
}

// visited returns a handler for those who may use the console. The others are sent to the login.
func (c *Console) visited(answer func(*visit) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v := c.newVisit(w, r)
		if !v.admit() {
			v.askForLogin()
			return
		}
		if err := answer(v); err != nil {
			v.fail(err)
		}
	}
}

// page returns a handler that shows a page, or its events.
func (c *Console) page(show func(*visit) (*page, error)) http.HandlerFunc {
	return c.visited(func(v *visit) error {
		p, err := show(v)
		if err != nil {
			return err
		}
		if p.live && v.r.Header.Get("Accept") == eventType {
			return v.follow(show, p)
		}
		v.answer(p)
		return nil
	})
}

// askForLogin sends the browser to the login, and back afterwards.
//
// A browser that follows a link of another site leaves the cookie of the login out. It is asked to load the page once more by
// itself, and then sends the cookie if there is one.
func (v *visit) askForLogin() {
	if v.r.Header.Get("Accept") == eventType {
		v.w.Header().Set("Content-Type", eventType)
		_ = v.send("over", nil) // the page then asks for itself, and is sent to the login
		return
	}
	if v.r.Header.Get("Sec-Fetch-Site") == "cross-site" && v.r.Method == http.MethodGet {
		v.write(http.StatusOK, "again", nextPage(v.r.URL.RequestURI()))
		return
	}
	to := Path + "/login"
	if v.r.Method == http.MethodGet && v.r.URL.Path != home {
		to += "?" + url.Values{"next": {v.r.URL.RequestURI()}}.Encode()
	}
	http.Redirect(v.w, v.r, to, http.StatusSeeOther)
}

// may reports whether the person has a right.
func (v *visit) may(needs server.Rights) bool { return v.rights&needs != 0 }

// frame is what surrounds each page.
type frame struct {
	Title   string
	Crumbs  []crumb
	Version string
	Theme   string
	Here    string // the URL of the page
	Token   string // of its forms
	User    bool   // somebody is logged in
	Live    bool
	Done    string // what an action has done before
	Page    any
}

// answer writes a page.
func (v *visit) answer(p *page) {
	f := frame{
		Title: p.title, Crumbs: p.crumbs, Version: v.console.cfg.Version, Theme: theme(v.r), Here: nextPage(v.r.URL.RequestURI()),
		Token: formToken(v.secret), User: v.console.cfg.Rights != nil && v.client != nil, Live: p.live, Page: p.data,
		Done: doneText(v.r.URL.Query()),
	}
	if p.status == 0 {
		p.status = http.StatusOK
	}
	v.write(p.status, p.name, f)
}

// write writes what a template makes of the data.
func (v *visit) write(status int, name string, data any) {
	var out bytes.Buffer
	if err := templates[name].ExecuteTemplate(&out, "page", data); err != nil {
		panic(fmt.Sprintf("template %s: %v", name, err)) // the server answers 500 and logs it
	}
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	v.w.WriteHeader(status)
	_, _ = v.w.Write(out.Bytes()) // an error means that the browser is gone
}

// problem is an error with a status and what a person can do about it.
type problem struct {
	status      int
	title, text string
}

func (p *problem) Error() string { return p.text }

var (
	errNoPage  = &problem{http.StatusNotFound, "There is no such page", "The address is not one of the console."}
	errOldForm = &problem{http.StatusForbidden, "This form is too old", "Nothing was done. Go back, load the page again, and repeat it. " +
		"Your browser must accept cookies of this server."}
)

// problemOf says what an error means to a person.
func problemOf(err error) *problem {
	var known *problem
	var api *sequin.APIError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &tooLarge):
		return &problem{http.StatusRequestEntityTooLarge, "Too large", "Nothing was done. Use the command sequin send for large messages."}
	case errors.Is(err, sequin.ErrNotFound), errors.Is(err, sequin.ErrInvalidArgument): // what a URL names that cannot be a name never existed
		return &problem{http.StatusNotFound, "Not found", "It was deleted, or never existed."}
	case errors.Is(err, sequin.ErrOutcomeUnknown):
		return &problem{http.StatusServiceUnavailable, "It is not known whether that was done", "Look before you repeat it. " + err.Error()}
	case errors.As(err, &api) && api.Status >= 500:
		return &problem{api.Status, "The server cannot answer", api.Summary}
	case errors.As(err, &api) && api.Status >= 400:
		return &problem{api.Status, "The server has refused this", api.Summary}
	case errors.Is(err, sequin.ErrUnsupported):
		return &problem{http.StatusNotImplemented, "The server cannot do this", err.Error()}
	}
	return &problem{http.StatusServiceUnavailable, "The server does not answer", err.Error()}
}

// fail answers an error. One that says that the token counts no longer leads to the login.
func (v *visit) fail(err error) {
	p := problemOf(err)
	if p.status == http.StatusUnauthorized {
		v.askForLogin()
		return
	}
	v.answer(&page{title: p.title, name: "problem", status: p.status, data: struct{ Title, Text string }{p.title, p.text}})
}
