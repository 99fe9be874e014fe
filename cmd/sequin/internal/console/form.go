package console

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/overview"
	"github.com/sequin-go/sequin/server"
)

// action is something that a person can do, after a page that asks for its values or for a confirmation.
type action struct {
	name  string        // for the log
	needs server.Rights // one of them
	// form returns the page, with what is in the URL.
	form func(*visit) (*form, error)
	// do acts, and returns what was done and the page to show then. A *fieldError is shown beside its field.
	do func(*visit) (*done, error)
}

// form is a page that asks for values.
type form struct {
	Title, Lead string
	Fields      []field
	Confirm     string // what has to be typed before something is lost; "" for nothing
	Submit      string
	Danger      bool
	Cancel      string // URL of the page to return to
	Problem     string // what is wrong, if it is about no field

	crumbs []crumb
}

// field is an input of a form.
type field struct {
	Name, Label, Help string
	Kind              string // text, number, check, area, hidden, or select
	Value             string
	Options           []fact // of a select: what is sent, and what is shown
	Required          bool
	Problem           string
}

// fieldError is about the value of a field.
type fieldError struct{ field, text string }

func (e *fieldError) Error() string { return e.field + ": " + e.text }

// done is what was done.
type done struct {
	what string // a key of doneTexts
	n    int64
	to   string // URL of the page to show
}

// confirmField is the field into which the name of what is lost has to be typed.
const confirmField = "confirm"

// show shows the form.
func (a action) show(v *visit) (*page, error) {
	f, err := a.build(v)
	if err != nil {
		return nil, err
	}
	return f.page(http.StatusOK), nil
}

func (a action) build(v *visit) (*form, error) {
	if !v.may(a.needs) {
		return nil, &problem{http.StatusForbidden, "You may not do this",
			"Your token has the rights " + v.rights.String() + ", and this needs " + strings.ReplaceAll(a.needs.String(), ",", " or ") + "."}
	}
	return a.form(v)
}

func (f *form) page(status int) *page {
	return &page{title: f.Title, name: "form", data: f, crumbs: f.crumbs, status: status}
}

// run acts on the values of the form. If something is wrong with them the form is shown again, as it was filled in.
func (a action) run(v *visit) error {
	if err := v.r.ParseForm(); err != nil {
		return err
	}
	if !fromOwnForm(v.r) {
		return errOldForm
	}
	f, err := a.build(v)
	if err != nil {
		return err
	}
	var d *done
	if f.Confirm != "" && strings.TrimSpace(v.value(confirmField)) != f.Confirm {
		err = &fieldError{confirmField, "This is not " + f.Confirm + "."}
	} else {
		d, err = a.do(v)
	}
	if err != nil {
		if status, ok := f.explain(v, err); ok {
			v.answer(f.page(status))
			return nil
		}
		return err
	}
	v.console.cfg.Log.Info("console: "+a.name, "stream", v.r.PathValue("stream"), "consumer", v.r.PathValue("consumer"), "from", v.r.RemoteAddr)
	to, _ := url.Parse(d.to) // our own
	query := to.Query()
	query.Set(doneParam, d.what)
	query.Set(countParam, overview.Number(d.n))
	to.RawQuery = query.Encode()
	http.Redirect(v.w, v.r, to.String(), http.StatusSeeOther)
	return nil
}

// value returns what was filled in.
func (v *visit) value(name string) string { return v.r.PostFormValue(name) }

// refused are the errors about what was filled in.
var refused = []error{
	sequin.ErrInvalidArgument, sequin.ErrInvalidKey, sequin.ErrInvalidPattern, sequin.ErrInvalidData, sequin.ErrInvalidHeaders,
	sequin.ErrInvalidAckID, sequin.ErrTooLarge, sequin.ErrBatchTooLarge, sequin.ErrValidation, sequin.ErrStreamFull, sequin.ErrUnsupported,
}

// fieldOf is the field that an error of the library is about.
var fieldOf = map[error]string{
	sequin.ErrInvalidKey: "key", sequin.ErrInvalidPattern: "filter_key_pattern", sequin.ErrInvalidData: "data", sequin.ErrInvalidHeaders: "headers",
}

// explain puts an error into the form, beside its field if it is about one. ok is false for an error that the form cannot mend.
func (f *form) explain(v *visit, err error) (status int, ok bool) {
	for i := range f.Fields {
		if in := &f.Fields[i]; in.Kind != "hidden" {
			in.Value = v.value(in.Name)
		}
	}
	var field *fieldError
	var api *sequin.APIError
	var redrive *redriveError
	switch {
	case errors.As(err, &redrive):
		f.Problem = redrive.Error()
		return http.StatusUnprocessableEntity, true
	case errors.As(err, &field):
		f.put(field.field, field.text)
		return http.StatusUnprocessableEntity, true
	case errors.As(err, &api) && len(api.ValidationErrors) > 0:
		for name, texts := range api.ValidationErrors {
			f.put(name, strings.Join(texts, ", "))
		}
		return http.StatusUnprocessableEntity, true
	case errors.As(err, &api) && errors.Is(err, sequin.ErrValidation):
		f.Problem = api.Summary
		return http.StatusUnprocessableEntity, true
	}
	for _, known := range refused {
		if errors.Is(err, known) {
			f.put(fieldOf[known], strings.TrimPrefix(err.Error(), "sequin: "))
			return http.StatusUnprocessableEntity, true
		}
	}
	return 0, false
}

// put puts a text beside a field, or above the form if it has no such field.
func (f *form) put(name, text string) {
	if name == confirmField {
		f.Problem = text
		return
	}
	for i := range f.Fields {
		if f.Fields[i].Name == name {
			f.Fields[i].Problem = text
			return
		}
	}
	if name != "" && name != "base" {
		text = name + ": " + text
	}
	f.Problem = strings.TrimSpace(f.Problem + " " + text)
}

// The parameters of a URL that tell what an action has done before.
const (
	doneParam  = "done"
	countParam = "n"
)

// doneTexts say what was done. The URL has the key only, so that nobody can make a link that shows a text of theirs.
var doneTexts = map[string]string{
	"stream-created":   "The stream was created.",
	"stream-deleted":   "The stream was deleted.",
	"consumer-created": "The consumer was created.",
	"consumer-deleted": "The consumer was deleted.",
	"sent":             "The message was sent.",
	"unmodified":       "Nothing was stored: the stream has this message already.",
	"purged":           "Messages that were removed: %n.",
	"nacked":           "Messages that were nacked: %n.",
	"redriven":         "Messages that were sent to their streams again: %n.",
	"redrive-goes-on":  "Messages that were sent to their streams again so far: %n. Redrive once more for the others.",
}

// doneText returns what an action has done, or "".
func doneText(query url.Values) string {
	text := doneTexts[query.Get(doneParam)]
	n := query.Get(countParam)
	if strings.Trim(n, "0123456789,") != "" || len(n) > 20 {
		n = "?"
	}
	return strings.ReplaceAll(text, "%n", n)
}
