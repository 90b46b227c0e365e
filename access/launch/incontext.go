package launch

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"tombolo/access"
	"tombolo/access/provider"
	"tombolo/access/token"
)

// PathPointer is where those lead who follow a pointer of the National Record Locator to this record, followed by the pointer's id.
const PathPointer = "/launch/nrl/"

// InContext believes the token with which somebody follows a pointer of the National Record Locator ("Direct using In-Context"), once: a statement signed by a provider of the
// region file that launches so (launch_scope), made for this node or for this one pointer, that bears that scope, holds for minutes and has an id. Who it is about is read as of those who sign in there.
// The error is for the log, and holds nothing of the token.
func (r *Reader) InContext(ctx context.Context, from *provider.Set, raw, pointer string) (who access.Principal, signedIn time.Time, err error) {
	if from == nil {
		return who, signedIn, errors.New("no provider is registered")
	}
	p, err := from.Of(raw)
	if err != nil {
		return who, signedIn, err
	}
	if p.LaunchScope == "" {
		return who, signedIn, errors.New("nobody is launched by tokens of this provider")
	}
	c, err := p.VerifyLaunch(ctx, raw, Lifetime, r.m.Issuer(), r.m.Issuer()+PathPointer+pointer)
	if err != nil {
		return who, signedIn, err
	}
	if !slices.Contains(strings.Fields(c.Text("scope")), p.LaunchScope) {
		return who, signedIn, errors.New("the token does not bear the scope with which a record is opened")
	}
	first, err := r.m.State().Once(ctx, "in-context "+p.ID+" "+c.ID, c.Expires.Add(token.Skew))
	if err != nil {
		return who, signedIn, err
	}
	if !first {
		return who, signedIn, errors.New("the token was used before")
	}
	who, err = p.Principal(c)
	return who, c.Issued, err
}
