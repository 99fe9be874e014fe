package server

import (
	"regexp"
	"unicode/utf8"
)

// endpoint reads the endpoint of a push consumer that is created with it, and returns whether there is one. This server has
// no push consumers: it checks the endpoint as the 2024 server does, and keeps nothing of it.
func (s *changeset) endpoint() (given bool, err error) {
	switch v := s.params["http_endpoint"].(type) {
	case nil:
		return false, nil
	case map[string]any:
		s.checkEndpoint(v)
		return true, nil
	case []any:
		return false, errBadCast
	}
	s.reject("http_endpoint", "is invalid")
	return false, nil
}

func (s *changeset) checkEndpoint(p params) {
	e := changeset{params: p}
	if v, _ := e.given("name"); v != nil {
		e.column(e.text("name"))
	}
	if url := e.text("base_url"); url != "" {
		e.column(url)
		if !anyURL.MatchString(url) {
			e.reject("base_url", "must be a valid URL with scheme and host")
		}
	}
	v, _ := e.given("headers")
	if _, isObject := v.(map[string]any); v != nil && !isObject {
		e.reject("headers", "is invalid")
	}
	e.id("account_id")
	if e.errors != nil {
		if s.errors == nil {
			s.errors = fieldErrors{}
		}
		s.errors["http_endpoint"] = e.errors
	}
	s.crash = s.crash || e.crash
}

// anyURL matches what the 2024 server takes for a URL with a host.
var anyURL = regexp.MustCompile(`(?i)^[a-z][a-z0-9+.-]*://`)

// column checks a text for a column of at most 255 characters, which the columns of endpoints are.
func (s *changeset) column(text string) {
	const longest = 255
	s.crash = s.crash || utf8.RuneCountInString(text) > longest || databaseText(text) != nil
}
