package console

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// loginPage is what the template of the login shows.
type loginPage struct {
	Next    string // the page to show afterwards
	Problem string
	Plain   bool // other machines can read the token on its way
}

func (c *Console) showLogin(w http.ResponseWriter, r *http.Request) {
	if c.cfg.Rights == nil {
		http.Redirect(w, r, home, http.StatusSeeOther)
		return
	}
	c.answerLogin(w, r, http.StatusOK, "")
}

func (c *Console) answerLogin(w http.ResponseWriter, r *http.Request, status int, problem string) {
	v := c.newVisit(w, r)
	host, _, _ := strings.Cut(r.Host, ":")
	v.answer(&page{
		title: "Log in", name: "login", status: status,
		data: loginPage{Next: nextPage(r.FormValue("next")), Problem: problem, Plain: !isEncrypted(r) && host != "localhost" && host != "127.0.0.1" && !strings.HasPrefix(r.Host, "[")},
	})
}

// nextPage returns the page of the console to which a URL leads, or the first one. It never leads elsewhere.
func nextPage(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || !strings.HasPrefix(u.Path, home) || strings.Contains(u.Path, "..") {
		return home
	}
	// Without its scheme and host.
	return (&url.URL{Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery}).String()
}

func (c *Console) login(w http.ResponseWriter, r *http.Request) {
	token := strings.TrimSpace(r.PostFormValue("token"))
	switch {
	case c.cfg.Rights == nil:
		http.Redirect(w, r, home, http.StatusSeeOther)
		return
	case !fromOwnForm(r):
		c.answerLogin(w, r, http.StatusForbidden, "This page was too old, or your browser refuses cookies. Try again.")
		return
	case !c.logins.begin(r.RemoteAddr, time.Now()):
		w.Header().Set("Retry-After", strconv.Itoa(int(loginWindow.Seconds())))
		c.answerLogin(w, r, http.StatusTooManyRequests, "Too many logins were refused. Wait a minute, and try again.")
		return
	case token == "" || c.cfg.Rights(token) == 0:
		c.logins.refused(r.RemoteAddr)
		c.cfg.Log.Warn("console: a login was refused, the token is not one of this server", "from", r.RemoteAddr)
		c.answerLogin(w, r, http.StatusForbidden, "This is not a token of this server.")
		return
	}
	sealed := c.seal(token, time.Now())
	if len(sealed) > maxCookie {
		c.answerLogin(w, r, http.StatusForbidden, "This token is too long for the cookie of a browser. Use a shorter one.")
		return
	}
	setCookie(w, r, sessionCookie, sealed)
	setCookie(w, r, formCookie, newFormSecret()) // what was seen before the login is of no use afterwards
	http.Redirect(w, r, nextPage(r.PostFormValue("next")), http.StatusSeeOther)
}

func (c *Console) logout(w http.ResponseWriter, r *http.Request) {
	if !fromOwnForm(r) {
		c.newVisit(w, r).fail(errOldForm)
		return
	}
	setCookie(w, r, sessionCookie, "")
	setCookie(w, r, formCookie, "")
	http.Redirect(w, r, home, http.StatusSeeOther)
}

// themes are the looks of the pages: that of the system, or one of them.
var themes = []string{"auto", "light", "dark"}

// theme returns the look that the browser has chosen.
func theme(r *http.Request) string {
	chosen := cookie(r, themeCookie)
	for _, t := range themes {
		if t == chosen {
			return t
		}
	}
	return themes[0]
}

// setTheme changes to the next look.
func (c *Console) setTheme(w http.ResponseWriter, r *http.Request) {
	if !fromOwnForm(r) {
		c.newVisit(w, r).fail(errOldForm)
		return
	}
	for i, t := range themes {
		if t == theme(r) {
			setCookie(w, r, themeCookie, themes[(i+1)%len(themes)])
		}
	}
	http.Redirect(w, r, nextPage(r.PostFormValue("next")), http.StatusSeeOther)
}
