// Package web is the pages that people read: the record viewer, the citizen's own record, the operators' desk, and the way in.
// Pages are made on the server, one .go and one .html file each, and work without JavaScript; with it, a record fills lane by lane as
// sources answer.
//
// The room holds sessions and a Records, never a store. It decides nothing about who may see what; what it must never get wrong is
// how absence is told (design law 3) and that a refusal looks exactly like absence (law 4). No identifier of a person stands in a URL.
package web

import (
	"context"
	"iter"
	"log/slog"
	"net/http"
	"time"

	"tombolo/access"
	"tombolo/access/launch"
	"tombolo/access/oauth"
	"tombolo/access/provider"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/policy"
)

//go:generate go run vendor.go

// Records is where records come from: the one door out, as this room sees it. gather.Gatherer is one.
type Records interface {
	// Find gives the opaque id of the person an identifier belongs to. A person who is unknown and one whose record this session
	// may not open are the same answer, fhir.NotFound; an identifier that cannot be anybody's says so by another type.
	Find(ctx context.Context, s *access.Session, id fhir.Identifier) (person string, err error)
	// FindInEmergency is Find by somebody who gives a reason to open the record although its owner objects.
	FindInEmergency(ctx context.Context, s *access.Session, id fhir.Identifier, g policy.Glass) (person string, err error)
	// Watch opens a person's record and yields it as it grows: first at once, with the lanes not yet answered in state
	// Asking, then whenever a lane has answered, last complete. Each Record is a snapshot that nobody changes any more. The
	// disclosure is audited before the first. An error comes alone and last: fhir.NotFound for a person who is unknown or not
	// to be known.
	Watch(ctx context.Context, s *access.Session, person string, ask gather.Ask) iter.Seq2[*gather.Record, error]
	// Who gives the person as this session may see them: identity only, no source is asked.
	Who(ctx context.Context, s *access.Session, person string) (gather.Person, error)
	// Document opens the content of a DocumentReference in a person's record; refused or unknown is fhir.NotFound. The
	// disclosure is audited before it returns.
	Document(ctx context.Context, s *access.Session, person string, ref fhir.Ref) (*gather.Document, error)
}

// Looks tells who has looked at a person's record.
type Looks interface {
	WhoLooked(ctx context.Context, s *access.Session, person string) ([]Look, error)
}

// A Look is one disclosure of a person's record, or a refusal of it, from the audit log.
type Look struct {
	Entry        uint64 // in the audit log
	At           time.Time
	User         string // their id, which tells namesakes apart; never shown
	Who          string // name or, for a system, its name
	Role         string
	Organisation string
	Why          string // purpose in words
	What         string // headings or "whole record"
	BrokeGlass   bool
	Refused      bool
	Copied       bool   // taken away as a file
	Told         bool   // a subscriber was told of a change
	Own          bool   // by the person themselves
	Background   string // what it means that no person at a screen here looked; "" if one did
	// When the person asked the privacy officer about it, zero if they did not, and whether that was looked into.
	Asked    time.Time
	Answered bool
}

// Options of the pages. Records and Access are needed; everything else may be left out.
type Options struct {
	Records  Records
	Access   *access.Manager
	Looks    Looks          // nil: "who has looked" is not shown
	Desk     Desk           // nil: there is no desk
	Feeds    Feeds          // nil: the desk has no pages of single sources
	Scope    Scope          // nil: the desk does not show what each source gives
	Plans    Plans          // nil: no gathering is explained
	Apps     *oauth.Server  // nil: no applications are let in
	Launches *launch.Reader // nil: nothing is launched from elsewhere
	SignIns  *provider.Set  // nil: nobody signs in elsewhere
	// Pointer finds the person to whom a pointer that this region has registered elsewhere leads; nil: there are none.
	Pointer  func(ctx context.Context, id string) (person string, err error)
	Privacy  Privacy      // nil: there is nothing for privacy officers, and citizens cannot ask about a look
	Choices  Choices      // nil: choices are not recorded here
	Identity Identity     // nil: nobody settles who is who here
	Logger   *slog.Logger // nil: slog.Default()

	Name string // what the region calls its record, "Severn Shared Care Record"
	// Identifiers are further kinds of number by which a person can be found, such as a trust's own; national ones are always offered.
	Identifiers []IdentifierKind
	// FrameAncestors are the origins that may show these pages in a frame, for launch inside another system. None: nobody may.
	FrameAncestors []string
	// Keep is how long an opened record is kept for its own timeline, search and event stream; 2 minutes if zero.
	Keep time.Duration
	Now  func() time.Time
}

// An IdentifierKind is a kind of number that the find page offers.
type IdentifierKind struct{ System, Label string }

// A Site serves the pages. It is an http.Handler for the paths of its route table.
type Site struct {
	opts     Options
	log      *slog.Logger
	pages    pages
	assets   assets
	viewings *viewings
	handler  http.Handler
}

// New makes the pages.
func New(o Options) (*Site, error) {
	if o.Records == nil || o.Access == nil {
		return nil, fhir.Errorf(fhir.Required, "web needs Records and Access")
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Name == "" {
		o.Name = "Shared care record"
	}
	if o.Keep == 0 {
		o.Keep = 2 * time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Site{opts: o, log: o.Logger, viewings: newViewings(o)}
	var err error
	if s.assets, err = loadAssets(); err != nil {
		return nil, err
	}
	if s.pages, err = loadPages(s.assets); err != nil {
		return nil, err
	}
	s.handler = s.protect(s.routes())
	return s, nil
}

// ServeHTTP answers a request for a page.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Close forgets the records that are held open and stops their gathering.
func (s *Site) Close() error { s.viewings.close(); return nil }

// routes is every page there is.
func (s *Site) routes() *http.ServeMux {
	mux := http.NewServeMux()
	open := func(pattern string, h page) { mux.Handle(pattern, s.open(h)) } // anybody may
	signed := func(pattern string, h page) { mux.Handle(pattern, s.signed(h)) }

	open("GET /{$}", s.home)
	open("GET /sign-in", s.signInPage)
	open("POST /sign-in", s.signIn)
	open("POST /sign-out", s.signOut)
	if s.opts.SignIns != nil {
		open("GET /sign-in/with/{provider}", s.signInWith)
		open("GET "+provider.PathBack, s.signedInElsewhere)
	}
	if s.opts.Launches != nil {
		open("GET /launch", s.launchIn)
		open("POST /launch", s.launchIn)
		if s.opts.Pointer != nil {
			open("POST "+launch.PathPointer+"{pointer}", s.followPointer)
		}
		open("GET "+launch.PathBack, s.smartBack)
		signed("GET /launch/pending/{id}", s.pendingLaunch)
	}
	if s.opts.Apps != nil {
		open("GET "+oauth.PathAuthorize, s.authorize)
		signed("GET "+oauth.PathConsent+"{id}", s.consentPage)
		signed("POST "+oauth.PathConsent+"{id}", s.consent)
		signed("POST /record/{person}/app", s.startApp)
		signed("GET /apps", s.myApps)
		signed("POST /apps/back", s.takeAppBack)
	}

	signed("GET /record", s.findPage)
	signed("POST /record", s.find)
	signed("GET /record/{person}", s.record)
	signed("GET /record/{person}/events", s.events)
	signed("POST /record/{person}/search", s.searchRecord)
	signed("GET /record/{person}/timeline", s.timeline)
	signed("GET /record/{person}/trends", s.trends)
	signed("GET /record/{person}/document/{id}", s.document)
	signed("POST /record/emergency", s.breakGlass)

	signed("GET /me", s.me)
	signed("GET /me/trends", s.myTrends)
	signed("GET /me/document/{id}", s.myDocument)
	signed("POST /me/looked", s.looked)
	signed("GET /me/asked", s.asked)
	signed("GET /me/choices", s.choices)
	signed("POST /me/choices", s.choose)
	signed("POST /me/choices/back", s.takeBack)
	signed("POST /privacy/choices", s.findChoices)
	signed("GET /privacy/choices/{person}", s.choices)
	signed("POST /privacy/choices/{person}", s.choose)
	signed("POST /privacy/choices/{person}/back", s.takeBack)
	signed("GET /desk", s.desk)
	signed("GET /desk/scope", s.scope)
	signed("GET /desk/scope.json", s.scopeJSON)
	signed("POST /desk/scope/probe", s.probeNow)
	signed("GET /desk/plan/{person}", s.plan)
	signed("GET /desk/identity", s.identity)
	signed("POST /desk/identity", s.identify)
	signed("GET /desk/feeds/{feed}", s.feed)
	signed("POST /desk/feeds/{feed}/open", s.openHeld)
	signed("POST /desk/feeds/{feed}/take", s.takeHeld)
	signed("GET /privacy", s.privacy)
	signed("POST /privacy", s.searchAudit)
	signed("POST /privacy/export", s.exportAudit)
	signed("POST /privacy/{id}", s.decide)

	mux.Handle("GET /static/", s.assets)
	open("/", func(w http.ResponseWriter, r *http.Request, _ *access.Session) error { return errNotFound })
	return mux
}
