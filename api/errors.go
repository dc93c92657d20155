package api

import "net/http"

// Code says which error an answer is. Codes are stable; titles and details are for people.
type Code string

// What is wrong with the request itself.
const (
	CodeMalformed        Code = "malformed"
	CodeInvalid          Code = "invalid"
	CodeMappingInvalid   Code = "mapping_invalid"
	CodePKInvalid        Code = "pk_invalid"
	CodeKeyReused        Code = "idempotency_key_reused"
	CodeKeyAcknowledged  Code = "idempotency_key_acknowledged"
	CodeNotFound         Code = "not_found"
	CodeMethodNotAllowed Code = "method_not_allowed"
	CodeMediaType        Code = "unsupported_media_type"
	CodeBodyTooLarge     Code = "body_too_large"
	CodeURITooLong       Code = "uri_too_long"
	CodeHeadersTooLarge  Code = "headers_too_large"
)

// What the state says against it.
const (
	CodeSessionNotFound  Code = "session_not_found"
	CodeSessionExists    Code = "session_exists"
	CodeLockHeld         Code = "lock_held"
	CodeLockWaitTimeout  Code = "lock_wait_timeout"
	CodeNotHolder        Code = "not_holder"
	CodeTicketNotFound   Code = "ticket_not_found"
	CodeTicketEnded      Code = "ticket_ended"
	CodeLimitMismatch    Code = "limit_mismatch"
	CodeReentrancyLimit  Code = "reentrancy_limit"
	CodeNoSuccessor      Code = "no_successor"
	CodeVersionMismatch  Code = "version_mismatch"
	CodeServiceNotFound  Code = "service_not_found"
	CodeServiceInUse     Code = "service_in_use"
	CodeInstanceNotFound Code = "instance_not_found"
	CodeInstanceState    Code = "instance_state"
	CodeStaleIncarnation Code = "stale_incarnation"
	CodeFenced           Code = "fenced"
	CodeBudgetExhausted  Code = "budget_exhausted"
	CodeNotUndoable      Code = "not_undoable"
	CodeDependencyCycle  Code = "dependency_cycle"
	CodePlanNotFound     Code = "plan_not_found"
	CodePlanState        Code = "plan_state"
	CodePlanRunning      Code = "plan_running"
	CodeZeroNotAllowed   Code = "zero_not_allowed"
	CodeCleanupNotFound  Code = "cleanup_not_found"
	CodeCleanupEnded     Code = "cleanup_ended"
	CodePatternInUse     Code = "pattern_in_use"
	CodeTrxNotFound      Code = "transaction_not_found"
	CodeMappingNotFound  Code = "mapping_not_found"
	CodeMappingInUse     Code = "mapping_in_use"
	CodePreparedNotFound Code = "prepared_not_found"
	CodePassNotFound     Code = "pass_not_found"
	CodePassRunning      Code = "pass_running"
	CodePassEnded        Code = "pass_ended"
	CodePassHeld         Code = "pass_held"
	CodePassNotHeld      Code = "pass_not_held"
	CodeScheduleNotFound Code = "schedule_not_found"
	CodeIndexAhead       Code = "index_ahead"
	CodeNodeNotFound     Code = "node_not_found"
	CodeUnsafe           Code = "unsafe"
	CodePlaceUnknown     Code = "place_unknown"
	CodeChangeRunning    Code = "change_running"
	CodeTransferFailed   Code = "transfer_failed"
)

// What is full.
const (
	CodeKeysOutstanding Code = "idempotency_keys_outstanding"
	CodeSessionsFull    Code = "sessions_full"
	CodeLocksFull       Code = "locks_full"
	CodeTicketsFull     Code = "tickets_full"
	CodeServicesFull    Code = "services_full"
	CodeInstancesFull   Code = "instances_full"
	CodePlansFull       Code = "plans_full"
	CodeCleanupsFull    Code = "cleanups_full"
	CodeMappingsFull    Code = "mappings_full"
	CodeOutboxFull      Code = "outbox_full"
	CodePausesFull      Code = "pauses_full"
	CodeStreamsFull     Code = "streams_full"
)

// What keeps the server from answering.
const (
	CodeNotApplied        Code = "not_applied" // surely not: safe to send again
	CodeNoLeader          Code = "no_leader"   // as not_applied
	CodeDraining          Code = "draining"    // as not_applied: this node is stopping, another serves
	CodeNotReady          Code = "not_ready"   // /readyz only: send requests to another node
	CodeSourceUnreachable Code = "source_unreachable"
	CodeTargetUnreachable Code = "target_unreachable"
	CodeOutcomeUnknown    Code = "outcome_unknown" // may or may not be applied: send again only with the same idempotency key
	CodeInternal          Code = "internal"        // a bug; the problem's id stands in the node's log
)

// Meaning is what a code stands for.
type Meaning struct {
	Status int
	Title  string
}

// Meanings is the one table from error codes to statuses.
var Meanings = map[Code]Meaning{
	CodeMalformed:        {http.StatusBadRequest, "The request could not be read"},
	CodeInvalid:          {http.StatusUnprocessableEntity, "The request is not valid"},
	CodeMappingInvalid:   {http.StatusUnprocessableEntity, "The mapping is not valid"},
	CodePKInvalid:        {http.StatusUnprocessableEntity, "The primary key does not fit the mapping"},
	CodeKeyReused:        {http.StatusUnprocessableEntity, "The idempotency key was used for another request"},
	CodeKeyAcknowledged:  {http.StatusUnprocessableEntity, "The client has acknowledged the result of this request"},
	CodeNotFound:         {http.StatusNotFound, "There is no such resource"},
	CodeMethodNotAllowed: {http.StatusMethodNotAllowed, "The resource does not have this method"},
	CodeMediaType:        {http.StatusUnsupportedMediaType, "The body must be application/json"},
	CodeBodyTooLarge:     {http.StatusRequestEntityTooLarge, "The body is too large"},
	CodeURITooLong:       {http.StatusRequestURITooLong, "The URI is too long"},
	CodeHeadersTooLarge:  {http.StatusRequestHeaderFieldsTooLarge, "The headers are too large"},

	// Session ids are drawn by the server and never used again, so one that is unknown was there once: gone, not missing.
	CodeSessionNotFound:  {http.StatusGone, "The session is gone"},
	CodeSessionExists:    {http.StatusConflict, "The session exists"},
	CodeLockHeld:         {http.StatusConflict, "The lock is held"},
	CodeLockWaitTimeout:  {http.StatusConflict, "The wait for the lock ended in vain"},
	CodeNotHolder:        {http.StatusConflict, "The caller does not hold the lock"},
	CodeTicketNotFound:   {http.StatusNotFound, "There is no such ticket"},
	CodeTicketEnded:      {http.StatusGone, "The wait is over"},
	CodeLimitMismatch:    {http.StatusConflict, "The semaphore has another limit"},
	CodeReentrancyLimit:  {http.StatusConflict, "The owner holds the lock as often as it may"},
	CodeNoSuccessor:      {http.StatusConflict, "Nobody waits who could take the lock over"},
	CodeVersionMismatch:  {http.StatusPreconditionFailed, "The resource has another version"},
	CodeServiceNotFound:  {http.StatusNotFound, "There is no such service"},
	CodeServiceInUse:     {http.StatusConflict, "The service has live instances"},
	CodeInstanceNotFound: {http.StatusNotFound, "There is no such instance"},
	CodeInstanceState:    {http.StatusConflict, "The instance's state does not allow it"},
	CodeStaleIncarnation: {http.StatusConflict, "This incarnation is over"},
	CodeFenced:           {http.StatusGone, "This incarnation is over: stop serving"},
	CodeBudgetExhausted:  {http.StatusConflict, "The budget does not allow it"},
	CodeNotUndoable:      {http.StatusConflict, "The drain cannot be undone any more"},
	CodeDependencyCycle:  {http.StatusConflict, "The services would depend on each other in a circle"},
	CodePlanNotFound:     {http.StatusNotFound, "There is no such plan"},
	CodePlanState:        {http.StatusConflict, "The plan's state does not allow it"},
	CodePlanRunning:      {http.StatusConflict, "Another plan works on the service"},
	CodeZeroNotAllowed:   {http.StatusConflict, "A shutdown leaves nobody, which must be allowed"},
	CodeCleanupNotFound:  {http.StatusNotFound, "There is no such cleanup"},
	CodeCleanupEnded:     {http.StatusConflict, "The cleanup has ended"},
	CodePatternInUse:     {http.StatusConflict, "A live service declares an overlapping pattern"},
	CodeTrxNotFound:      {http.StatusNotFound, "There is no such transaction"},
	CodeMappingNotFound:  {http.StatusNotFound, "There is no such mapping"},
	CodeMappingInUse:     {http.StatusConflict, "The mapping is in use"},
	CodePreparedNotFound: {http.StatusNotFound, "There are no such prepared events"},
	CodePassNotFound:     {http.StatusNotFound, "There is no such pass"},
	CodePassRunning:      {http.StatusConflict, "A pass is running"},
	CodePassEnded:        {http.StatusConflict, "The pass has ended"},
	CodePassHeld:         {http.StatusConflict, "The pass waits for an approval"},
	CodePassNotHeld:      {http.StatusConflict, "The pass waits for no approval"},
	CodeScheduleNotFound: {http.StatusNotFound, "There is no such schedule"},
	CodeIndexAhead:       {http.StatusConflict, "The index is ahead of the state"},
	CodeNodeNotFound:     {http.StatusNotFound, "There is no such node"},
	CodeUnsafe:           {http.StatusConflict, "The change would put the cluster at risk"},
	CodeChangeRunning:    {http.StatusConflict, "Another change of the membership is under way"},
	CodeTransferFailed:   {http.StatusConflict, "The leadership stayed where it was"},
	CodeBackupDamaged:    {http.StatusUnprocessableEntity, "The backup is damaged"},
	CodeBackupNewer:      {http.StatusUnprocessableEntity, "The backup is of a newer version"},
	CodeTokensExhausted:  {http.StatusConflict, "The token counter has no room for a restore"},
	CodeRestoreRunning:   {http.StatusConflict, "Another restore is under way"},
	CodePlaceUnknown:     {http.StatusUnprocessableEntity, "Not every node has the source or the target"},

	CodeKeysOutstanding: {http.StatusTooManyRequests, "Too many results are unacknowledged"},
	CodeSessionsFull:    {http.StatusTooManyRequests, "Too many sessions"},
	CodeLocksFull:       {http.StatusTooManyRequests, "Too many locks"},
	CodeTicketsFull:     {http.StatusTooManyRequests, "Too many waits"},
	CodeServicesFull:    {http.StatusTooManyRequests, "Too many services"},
	CodeInstancesFull:   {http.StatusTooManyRequests, "Too many instances"},
	CodePlansFull:       {http.StatusTooManyRequests, "Too many plans"},
	CodeCleanupsFull:    {http.StatusTooManyRequests, "Too many cleanups"},
	CodeMappingsFull:    {http.StatusTooManyRequests, "Too many mappings"},
	CodeOutboxFull:      {http.StatusTooManyRequests, "Too many pending events"},
	CodePausesFull:      {http.StatusTooManyRequests, "Too many pauses"},
	CodeStreamsFull:     {http.StatusTooManyRequests, "Too many streams"},

	CodeNotApplied:        {http.StatusServiceUnavailable, "The request was not applied"},
	CodeNoLeader:          {http.StatusServiceUnavailable, "There is no leader"},
	CodeDraining:          {http.StatusServiceUnavailable, "This node is stopping"},
	CodeNotReady:          {http.StatusServiceUnavailable, "This node is not ready"},
	CodeSourceUnreachable: {http.StatusServiceUnavailable, "The source cannot be reached"},
	CodeTargetUnreachable: {http.StatusServiceUnavailable, "The target cannot be reached"},
	CodeOutcomeUnknown:    {http.StatusGatewayTimeout, "The request may or may not have been applied"},
	CodeInternal:          {http.StatusInternalServerError, "The server made a mistake"},
}

// Problem is the body of every error answer (RFC 9457).
type Problem struct {
	Type         string   `json:"type" doc:"A name for the kind of problem" format:"uri-reference"`
	Title        string   `json:"title"`
	Status       int      `json:"status"`
	Detail       string   `json:"detail,omitempty" doc:"What happened, for a person"`
	Code         Code     `json:"code" doc:"What happened, for a program"`
	Index        uint64   `json:"index,omitempty" doc:"Revision of the state that refused"`
	RetryAfterMs uint64   `json:"retry_after_ms,omitempty" doc:"When to send again"`
	Holder       string   `json:"holder,omitempty" doc:"Session that holds the lock"`
	Token        uint64   `json:"token,omitempty" doc:"Token of that holder"`
	Blockers     []string `json:"blockers,omitempty" doc:"What stands in the way"`
	Limit        uint64   `json:"limit,omitempty" doc:"The bound that was passed"`
	Faults       []Fault  `json:"faults,omitempty" doc:"Every fault of the request"`
	ID           string   `json:"id,omitempty" doc:"Of this occurrence, as it stands in the node's log"`
}

// Fault is one thing wrong with a request.
type Fault struct {
	Field  string `json:"field" doc:"Path in the body, the query or the headers"`
	Reason string `json:"reason"`
}

// Error makes a Problem usable as an error.
func (p *Problem) Error() string {
	if p.Detail == "" {
		return string(p.Code) + ": " + p.Title
	}
	return string(p.Code) + ": " + p.Detail
}
