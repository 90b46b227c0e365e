package postgres

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"tombolo/kv"
)

// Whoever asked may ask again: that the server is not there, or its disk is not, says nothing of what is stored.
func TestAServerThatIsGoneForAWhileIsCalledUnavailable(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	for _, c := range []struct {
		err  error
		want bool
	}{
		{&pgconn.PgError{Code: "57P01"}, true}, {&pgconn.PgError{Code: "57P03"}, true}, {errors.New("connection reset"), true},
		{fmt.Errorf("failed to connect: %w", &pgconn.PgError{Code: "58030", Message: `could not open file "base/1/2": Input/output error`}), true},
		{&pgconn.PgError{Code: "XX001"}, false}, {&pgconn.PgError{Code: "42501"}, false}, {context.Canceled, false},
	} {
		if got := again(c.err); got != c.want {
			t.Errorf("%v may be tried again: %v, want %v", c.err, got, c.want)
		}
	}
	cancel() // no waiting between tries
	if err := reading(ctx, func() error { return &pgconn.PgError{Code: "58030"} }); !errors.Is(err, kv.ErrUnavailable) {
		t.Errorf("a failing disk is told of as %v", err)
	}
}
