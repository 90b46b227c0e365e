package oauth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"slices"
	"time"

	"tombolo/access"
	"tombolo/access/state"
	"tombolo/fhir"
	"tombolo/search/scope"
)

// A LetIn is an application that a user has let in for longer than minutes, and has not taken back.
type LetIn struct {
	ID        string // of the user's leave; it opens nothing
	Client    string // the application's name
	Host      string // where it is, "" if that is no address of the web
	Scopes    scope.Set
	Patient   string // id of the one person whose record it is about; "" for whatever the scopes say
	At, Until time.Time
}

// A leave is what is remembered of one.
type leave struct {
	Client   string    `json:"client"`
	Redirect string    `json:"redirect"`
	Scopes   string    `json:"scopes"`
	Patient  string    `json:"patient,omitempty"`
	Family   string    `json:"family"`
	At       time.Time `json:"at"`
	Until    time.Time `json:"until"`
}

// id names a leave on a page: by the family of its tokens, which does not follow from it.
func (l *leave) id() string {
	sum := sha256.Sum256([]byte("leave/" + l.Family))
	return hex.EncodeToString(sum[:8])
}

// lasting remembers that a user has let an application in, if that is for longer than one access token's life.
func (s *Server) lasting(ctx context.Context, session *access.Session, q request, g access.Grant) error {
	now := s.m.Now()
	set, _ := scope.Parse(g.Scopes)
	l := leave{Client: g.Client, Redirect: q.Redirect, Scopes: g.Scopes, Patient: g.Patient, Family: g.Family, At: now}
	switch {
	case set.Has("offline_access"):
		l.Until = now.Add(offlineFor)
	case set.Has("online_access"):
		l.Until = g.SignedIn.Add(onlineFor)
	default:
		return nil
	}
	var all []leave
	return s.m.State().Keep(ctx, state.Leave, session.User, &all, func() (time.Time, error) {
		all = slices.DeleteFunc(all, func(o leave) bool { return !now.Before(o.Until) || o.Family == l.Family })
		all = append(all, l)
		return slices.MaxFunc(all, func(a, b leave) int { return a.Until.Compare(b.Until) }).Until, nil
	})
}

// LetIn are the applications that the session's user has let in and that may still act for them, the last first.
func (s *Server) LetIn(ctx context.Context, session *access.Session) ([]LetIn, error) {
	all, err := s.leaves(ctx, session)
	if err != nil {
		return nil, err
	}
	var out []LetIn
	for _, l := range all {
		set, _ := scope.Parse(l.Scopes)
		in := LetIn{ID: l.id(), Client: s.clients[l.Client].Name, Scopes: set, Patient: l.Patient, At: l.At, Until: l.Until}
		if u, err := url.Parse(l.Redirect); err == nil {
			in.Host = u.Host
		}
		out = append(out, in)
	}
	slices.SortStableFunc(out, func(a, b LetIn) int { return b.At.Compare(a.At) })
	return out, nil
}

// leaves are those of the user that still hold: of applications that are still registered, not over, and not taken back by anybody.
func (s *Server) leaves(ctx context.Context, session *access.Session) ([]leave, error) {
	var all, out []leave
	if _, err := s.m.State().Get(ctx, state.Leave, session.User, &all); err != nil {
		return nil, err
	}
	for _, l := range all {
		revoked, err := s.m.State().Get(ctx, state.Family, l.Family, nil)
		if err != nil {
			return nil, err
		}
		if _, known := s.clients[l.Client]; known && !revoked && s.m.Now().Before(l.Until) {
			out = append(out, l)
		}
	}
	return out, nil
}

// TakeBack ends what the session's user has let an application do: its tokens are good for nothing from now on. Taken back again it stays so. An error of type NotFound: the user
// has let no such application in.
func (s *Server) TakeBack(ctx context.Context, session *access.Session, id string) error {
	var all []leave
	if _, err := s.m.State().Get(ctx, state.Leave, session.User, &all); err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(l leave) bool { return l.id() == id })
	if i < 0 {
		return fhir.Errorf(fhir.NotFound, "there is no such application")
	}
	revoked, err := s.m.State().Get(ctx, state.Family, all[i].Family, nil)
	if err != nil || revoked {
		return err
	}
	if err := s.revokeFamily(ctx, all[i].Family); err != nil {
		return err
	}
	return s.m.TookBack(ctx, session, all[i].Client)
}
