package sequinpubsub

import (
	"context"
	"errors"
	"net/http"

	"gocloud.dev/gcerrors"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/envelope"
)

// errorCodes are checked in this order: an error may wrap several.
var errorCodes = []struct {
	err  error
	code gcerrors.ErrorCode
}{
	{context.Canceled, gcerrors.Canceled},
	{context.DeadlineExceeded, gcerrors.DeadlineExceeded},
	{sequin.ErrClosed, gcerrors.FailedPrecondition},
	{sequin.ErrNotFound, gcerrors.NotFound},
	{sequin.ErrUnauthorized, gcerrors.PermissionDenied},
	{sequin.ErrRateLimited, gcerrors.ResourceExhausted},
	{sequin.ErrStreamFull, gcerrors.ResourceExhausted},
	{sequin.ErrInvalidConfig, gcerrors.InvalidArgument},
	{sequin.ErrInvalidKey, gcerrors.InvalidArgument},
	{sequin.ErrInvalidData, gcerrors.InvalidArgument},
	{sequin.ErrInvalidArgument, gcerrors.InvalidArgument},
	{sequin.ErrTooLarge, gcerrors.InvalidArgument},
	{sequin.ErrValidation, gcerrors.InvalidArgument},
	{envelope.ErrInvalid, gcerrors.InvalidArgument},
}

// errorCode returns the code of an error of this package.
func errorCode(err error) gcerrors.ErrorCode {
	for _, e := range errorCodes {
		if errors.Is(err, e.err) {
			return e.code
		}
	}
	var answer *sequin.APIError
	if errors.As(err, &answer) && !answer.Foreign && answer.Status/100 == 4 && answer.Status != http.StatusRequestTimeout {
		return gcerrors.InvalidArgument
	}
	return gcerrors.Unknown
}
