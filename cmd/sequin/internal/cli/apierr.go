package cli

import (
	"errors"
	"fmt"

	"github.com/sequin-go/sequin"
)

// refusedArguments are the errors of values that a command was given.
var refusedArguments = []error{
	sequin.ErrInvalidConfig, sequin.ErrInvalidArgument, sequin.ErrInvalidKey, sequin.ErrInvalidPattern, sequin.ErrInvalidData,
	sequin.ErrInvalidHeaders, sequin.ErrInvalidAckID, sequin.ErrBatchTooLarge,
}

// OfClient gives an error of the client library its exit code, and says what to do where the library cannot know.
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
	case errors.Is(err, sequin.ErrUnauthorized):
		return fmt.Errorf("%w: the token comes from --token-file, $SEQUIN_TOKEN or the context", err)
	}
	return err
}
