package enginetest

import (
	"context"
	"errors"

	"tombolo/kv"
)

// A Fate is what becomes of a commit.
type Fate int

// The fates: answered, or not, and then written or not.
const (
	Answered Fate = iota
	LostBefore
	LostAfter
)

// ErrLost is the error of a commit whose answer is lost.
var ErrLost = errors.New("the answer was lost")

// Unsure is an engine that loses the answers of some commits, so that whoever commits cannot tell whether it was written. Fate says of each what becomes of it.
type Unsure struct {
	kv.Engine
	Fate func() Fate
}

// Commit commits, or seems to fail.
func (u Unsure) Commit(ctx context.Context, b kv.Batch) (kv.Position, error) {
	fate := u.Fate()
	if fate == LostBefore {
		return 0, ErrLost
	}
	at, err := u.Engine.Commit(ctx, b)
	if fate == LostAfter && err == nil {
		return 0, ErrLost
	}
	return at, err
}
