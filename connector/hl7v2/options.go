package hl7v2

import (
	"cmp"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"tombolo/fhir"
)

// Options describe one feed: one system that sends HL7 v2. The zero value reads British messages in production mode.
type Options struct {
	Source       string // id of the system in the region file
	Organisation string // ODS code of the organisation that runs it: who provides the encounters
	// Authority is the assigning authority of local numbers that come without one, and whose numbers are used as patient ids as they
	// are; other authorities' are prefixed. Organisation if empty.
	Authority string
	// Systems gives the URI of an assigning authority ("RX1") or of a local code table ("WinPath") by the name that messages use.
	Systems map[string]string

	// Mapping is what fields and codes mean, the feed's dialect included; Base() if nil.
	Mapping *Mapping
	// MappingFile is where a running feed finds the dialect when it has changed; "" if it does not look. It looks every Reread, 10 s if 0.
	MappingFile string
	Reread      time.Duration

	Location    *time.Location // of times without an offset; Europe/London if nil
	Charset     string         // of messages without MSH-18; "" means UTF-8 where valid, else Windows-1252
	Processing  string         // the processing ids of MSH-11 that are taken, "P" if empty; "PT" takes test messages too
	KeepUnknown bool           // take message types that have no map, keep them raw, and acknowledge them AA with an issue, instead of AR

	Wire         Wire          // TLS, connecting instead of listening, and who may send
	Listen       string        // host:port
	Listener     net.Listener  // instead of Listen; may be a TLS listener
	MaxFrame     int           // bytes; MaxMessage if 0
	IdleTimeout  time.Duration // a connection on which nothing begins for so long is closed; 1 h if 0
	FrameTimeout time.Duration // how long one frame may take to arrive, or an answer to be sent; 1 min if 0
	Grace        time.Duration // how long a message in hand may take to be finished when the feed stops; 5 s if 0
	Patience     time.Duration // how long a message may wait to be taken before its sender is looked after: one who has hung up is let go; 1 s if 0
	MaxConns     int           // further connections wait; 64 if 0
	AppAck       bool          // in enhanced mode with MSH-16, send the application acknowledgement on the same connection after the accept one

	// How faults are answered where a receiver's meaning of AE and AR is not the standard's. FaultAck answers what is wrong with a message, "AE" if
	// empty; RefusalAck what is not for this feed, "AR" if empty; FailureAck this side's own failures: "" gives no answer and closes the
	// connection, so that the sender sends again, "AE" or "AR" is for engines that take that one for "again later".
	FaultAck, RefusalAck, FailureAck string

	Outward Outward // what is sent to the feed's system

	Directory Directory // answers patient demographics queries; nil: the feed takes none

	Logger *slog.Logger
	Now    func() time.Time
	// Saw is told of each frame that came, and what it gives of each answer to it before that is sent; nil: nobody is told.
	Saw func(asked []byte) func(answered []byte)
	// Sends is told of each message to the feed's system before it is sent; nil: nobody is told.
	Sends func(message []byte)
}

// Set takes a feed's settings as the region file has them: authority, charset, timezone, processing, keep-unknown, max-frame (bytes),
// idle-timeout, frame-timeout, app-ack, fault-ack, refusal-ack, failure-ack, tls-cert, tls-key, tls-client-ca, tls-peer, senders, insecure, send-to,
// send-as and send-for (APPLICATION^FACILITY), send-version, send-processing, send-again, send-attempts; and "system." + a
// name for its URI. pdq is whoever wires the feed's.
func (o *Options) Set(settings map[string]string) error {
	for k, v := range settings {
		var err error
		switch k {
		case "authority":
			o.Authority = v
		case "charset":
			if o.Charset = v; !KnownCharset(v) {
				err = fhir.Errorf(fhir.ValueError, "not a character set this program reads: write UTF-8, 8859/1, 8859/15 or WINDOWS-1252")
			}
		case "timezone":
			o.Location, err = time.LoadLocation(v)
		case "processing":
			if o.Processing = strings.ToUpper(v); strings.Trim(o.Processing, "PTD") != "" || v == "" {
				err = fhir.Errorf(fhir.ValueError, "processing ids are P, T and D: write P, or PT to take test messages too")
			}
		case "keep-unknown":
			o.KeepUnknown, err = strconv.ParseBool(v)
		case "app-ack":
			o.AppAck, err = strconv.ParseBool(v)
		case "max-frame":
			o.MaxFrame, err = strconv.Atoi(v)
		case "idle-timeout":
			o.IdleTimeout, err = time.ParseDuration(v)
		case "frame-timeout":
			o.FrameTimeout, err = time.ParseDuration(v)
		case "fault-ack":
			o.FaultAck, err = ackSetting(v, false)
		case "refusal-ack":
			o.RefusalAck, err = ackSetting(v, false)
		case "failure-ack":
			o.FailureAck, err = ackSetting(v, true)
		case "pdq":
			_, err = strconv.ParseBool(yes(v))
		default:
			known, wrong := o.Wire.set(k, v)
			if !known {
				known, wrong = o.Outward.set(k, v)
			}
			if known {
				err = wrong
				break
			}
			name, ok := strings.CutPrefix(k, "system.")
			if !ok || name == "" {
				return fhir.Errorf(fhir.ValueError, "an hl7v2 feed has no setting of this name: it has authority, charset, timezone, processing, keep-unknown, max-frame, idle-timeout, frame-timeout, "+
					"app-ack, fault-ack, refusal-ack, failure-ack, pdq, tls-cert, tls-key, tls-client-ca, tls-peer, senders, insecure, send-to, send-as, send-for, send-version, send-processing, send-again, send-attempts and system.NAME").At("options." + k)
			}
			if o.Systems == nil {
				o.Systems = map[string]string{}
			}
			o.Systems[name] = v
		}
		if err != nil {
			return fhir.Errorf(fhir.ValueError, "%w", err).At("options." + k)
		}
	}
	return nil
}

// ackSetting reads how a kind of fault is answered.
func ackSetting(v string, none bool) (string, error) {
	switch v = strings.ToUpper(v); {
	case v == "AE" || v == "AR":
		return v, nil
	case none && v == "NONE":
		return "", nil
	case none:
		return "", fhir.Errorf(fhir.ValueError, "write none, AE or AR")
	}
	return "", fhir.Errorf(fhir.ValueError, "write AE or AR")
}

// yes reads YAML's other words for true and false, which are text in a settings map.
func yes(v string) string {
	switch strings.ToLower(v) {
	case "yes", "on":
		return "true"
	case "no", "off":
		return "false"
	}
	return v
}

// Authorities are the systems of identifiers that the feed's messages may use by name: those of its own authority and of its settings.
func (o Options) Authorities() []string {
	o = o.withDefaults()
	x := mapper{o: &o, mp: o.Mapping}
	out := []string{x.systemOf(o.Authority)}
	for _, known := range []map[string]string{o.Systems, o.Mapping.systems} {
		for _, uri := range known {
			out = append(out, uri)
		}
	}
	return out
}

func (o Options) withDefaults() Options {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	if o.Mapping == nil {
		o.Mapping = Base()
	}
	if o.Authority == "" {
		o.Authority = cmp.Or(o.Mapping.authority, o.Organisation)
	}
	if o.Location == nil {
		o.Location = fhir.London
	}
	if o.Processing == "" {
		o.Processing = "P"
	}
	if o.MaxFrame <= 0 {
		o.MaxFrame = MaxMessage
	}
	if o.MaxConns <= 0 {
		o.MaxConns = 64
	}
	def(&o.Reread, 10*time.Second)
	def(&o.IdleTimeout, time.Hour)
	def(&o.FrameTimeout, time.Minute)
	def(&o.Grace, 5*time.Second)
	def(&o.Patience, time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}
