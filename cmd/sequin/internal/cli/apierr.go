package cli

import (
	"errors"
	"net/http"
	"strings"

	"github.com/sequin-go/sequin"
)

// refusedArguments are the errors of values that a command was given.
var refusedArguments = []error{
	sequin.ErrInvalidConfig, sequin.ErrInvalidArgument, sequin.ErrInvalidKey, sequin.ErrInvalidPattern, sequin.ErrInvalidData,
	sequin.ErrInvalidHeaders, sequin.ErrInvalidAckID, sequin.ErrBatchTooLarge,
}

// OfClient gives an error of the client library its exit code.
func OfClient(err error) error {
	var coded *codedError
	if err == nil || errors.As(err, &coded) {
		return err
	}
	for _, refused := range refusedArguments {
		if errors.Is(err, refused) {
			return &codedError{ExitUsage, err}
		}
	}
	switch {
	case errors.Is(err, sequin.ErrUnreachable):
		return &codedError{ExitUnreachable, err}
	case errors.Is(err, sequin.ErrNotFound):
		return &codedError{ExitNotFound, err}
	}
	return err
}

// textOf returns the text of err. It says a status once, with which most summaries begin. It has no ids of requests that were
// refused, because the text says all about them. Where the server or a proxy failed, the id finds the request in the log.
func textOf(err error) string {
	text := err.Error()
	for _, api := range apiErrors(err) {
		if api.Status < http.StatusInternalServerError && !api.Foreign {
			text = strings.ReplaceAll(text, " [request "+api.RequestID+"]", "")
		}
		status := http.StatusText(api.Status)
		if n := len(status); n > 0 && len(api.Summary) >= n && strings.EqualFold(api.Summary[:n], status) {
			if rest := api.Summary[n:]; rest == "" || strings.HasPrefix(rest, ": ") {
				text = strings.ReplaceAll(text, status+": "+api.Summary, status+rest)
			}
		}
	}
	return text
}

// apiErrors returns all answers of a server that err wraps.
func apiErrors(err error) (all []*sequin.APIError) {
	if api, ok := err.(*sequin.APIError); ok {
		return []*sequin.APIError{api}
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return apiErrors(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			all = append(all, apiErrors(one)...)
		}
	}
	return all
}
