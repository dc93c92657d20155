package cluster_test

import "fmt"

// The words of the stories. Each story has names of its own, for all run at the same time against one cluster.

func open(as string) exchange { return openFor(as, 600_000) }

func openFor(as string, ttlMs int) exchange {
	return exchange{ask: "POST /v1/sessions", body: fmt.Sprintf(`{"name":"{story}","ttl_ms":%d}`, ttlMs), want: "200", keep: map[string]string{as: "id"}}
}

func closeOf(session string) exchange {
	return exchange{ask: "DELETE /v1/sessions/{" + session + "}", want: "204"}
}

func post(path, body, want string) exchange {
	return exchange{ask: "POST " + path, body: body, want: want}
}

func look(path string) exchange { return exchange{ask: "GET " + path, want: "200"} }

func (x exchange) keeping(as, path string) exchange {
	x.keep = map[string]string{as: path}
	return x
}

func lockPath(what string) string { return "/v1/locks/" + what }

// take asks for a lock of the story's name; more are further fields, and the token is kept as T-session.
func take(session, more, want string) exchange {
	x := post(lockPath("acquire"), `{"session":"{`+session+`}","locks":[{"name":"{story}"}]`+more+`}`, want)
	if want == "200" {
		return x.keeping("T-"+session, "grants.0.token")
	}
	return x
}

// takeAs asks with the fields of a lock other than its name.
func takeAs(session, lock, more, want string) exchange {
	x := post(lockPath("acquire"), `{"session":"{`+session+`}","locks":[{"name":"{story}",`+lock+`}]`+more+`}`, want)
	if want == "200" {
		return x.keeping("T-"+session, "grants.0.token")
	}
	return x
}

// queue stands in line without parking: the ticket is kept as W-session.
func queue(session, locks, more string) exchange {
	return post("/v1/batch", `{"ops":[{"op":"locks.acquire","body":{"session":"{`+session+`}","wait_ms":60000,"locks":[`+locks+`]`+more+`}}]}`, "200").
		keeping("W-"+session, "results.0.body.ticket")
}

const itself = `{"name":"{story}"}`

// attend takes a wait up again and keeps the token.
func attend(session string) exchange {
	return post(lockPath("acquire"), `{"ticket":{W-`+session+`},"wait_ms":20000}`, "200").keeping("T-"+session, "grants.0.token")
}

// glance is attend for a wait that goes on, or is over.
func glance(session, want string) exchange {
	return post(lockPath("acquire"), `{"ticket":{W-`+session+`},"wait_ms":1}`, want)
}

func giveBack(session, want string) exchange {
	return post(lockPath("release"), `{"session":"{`+session+`}","locks":[{"name":"{story}","token":{T-`+session+`}}]}`, want)
}

func lookAtLock() exchange { return look("/v1/locks?name={story}") }

// lockStories are about taking, waiting and giving back.
var lockStories = map[string][]exchange{
	"sessions": {
		open("a"), look("/v1/sessions/{a}"),
		post("/v1/sessions/keepalive", `{"ids":["{a}"]}`, "200"),
		post("/v1/sessions/keepalive", `{"ids":["{a}","nobody"]}`, "200"),
		closeOf("a"),
		post("/v1/sessions/keepalive", `{"ids":["{a}"]}`, "410 session_not_found"),
		{ask: "DELETE /v1/sessions/{a}", want: "410 session_not_found"},
		take("a", "", "410 session_not_found"),
	},
	"requests": {
		post("/v1/sessions", `{"ttl_ms":10}`, "422 invalid"),
		post("/v1/sessions", `{"ttl_ms":1000,"ttl":1}`, "422 invalid"),
		post("/v1/sessions", `{"ttl_ms":`, "400 malformed"),
		{ask: "POST /v1/sessions", body: `{}`, header: "Content-Type: text/plain", want: "415 unsupported_media_type"},
		{ask: "GET /v1/nothing", want: "404 not_found"},
		{ask: "PUT /v1/sessions", want: "405 method_not_allowed"},
		look("/healthz"), look("/readyz"),
		{ask: "GET /v1/locks?wrong=1", want: "422 invalid"},
	},
	"exclusive": {
		open("a"), open("b"), lookAtLock(),
		take("a", "", "200"),
		take("a", "", "409 lock_held"),
		take("b", "", "409 lock_held"),
		lookAtLock(),
		queue("b", itself, ""), lookAtLock(), glance("b", "202"),
		post(lockPath("validate"), `{"name":"{story}","token":{T-a}}`, "200"),
		post(lockPath("release"), `{"session":"{b}","locks":[{"name":"{story}","token":{T-a}}]}`, "409 not_holder"),
		giveBack("a", "204"),
		giveBack("a", "409 not_holder"),
		attend("b"), lookAtLock(), glance("b", "200"),
		giveBack("b", "204"), glance("b", "410 ticket_ended"),
		post(lockPath("cancel"), `{"ticket":{W-b}}`, "410 ticket_ended"),
		post(lockPath("cancel"), `{"ticket":9007199254740991}`, "404 ticket_not_found"),
		post(lockPath("validate"), `{"name":"{story}","token":{T-b}}`, "200"),
		lookAtLock(),
	},
	"waits": {
		open("a"), open("b"), open("c"),
		take("a", "", "200"),
		take("b", `,"wait_ms":30`, "409 lock_wait_timeout"),
		func() exchange { x := take("b", `,"wait_ms":20000`, "200"); x.begin, x.keep = "parked", nil; return x }(),
		{ask: "GET /v1/locks?name={story}", until: "locks.0.waiting=1", want: "200"},
		queue("c", itself, ""),
		post(lockPath("cancel"), `{"ticket":{W-c}}`, "204"),
		glance("c", "410 ticket_ended"),
		closeOf("a"),
		{await: "parked", want: "200", keep: map[string]string{"T-b": "grants.0.token"}},
		giveBack("b", "204"),
	},
	"expiry": {
		openFor("a", 1_000), open("b"), open("c"),
		take("a", `,"lock_delay_ms":200`, "200"), queue("b", itself, ""),
		attend("b"),
		giveBack("a", "409 not_holder"),
		lookAtLock(),
	},
	"idempotency": {
		open("a"),
		{ask: "POST /v1/locks/acquire", body: `{"session":"{a}","locks":[{"name":"{story}"}]}`, header: "Idempotency-Key: {a}/1", want: "200"},
		{ask: "POST /v1/locks/acquire", body: `{"session":"{a}","locks":[{"name":"{story}"}]}`, header: "Idempotency-Key: {a}/1", want: "200"},
		{ask: "POST /v1/locks/acquire", body: `{"session":"{a}","locks":[{"name":"other"}]}`, header: "Idempotency-Key: {a}/1", want: "422 idempotency_key_reused"},
	},
	"shared": {
		open("a"), open("b"), open("c"), open("d"),
		takeAs("a", `"mode":"shared"`, "", "200"),
		takeAs("b", `"mode":"shared"`, "", "200"),
		take("c", "", "409 lock_held"),
		queue("c", itself, ""),
		takeAs("d", `"mode":"shared"`, "", "409 lock_held"),
		queue("d", `{"name":"{story}","mode":"shared"}`, ""),
		lookAtLock(),
		giveBack("a", "204"), giveBack("b", "204"), attend("c"), glance("d", "202"),
		post(lockPath("downgrade"), `{"session":"{c}","name":"{story}","token":{T-c}}`, "204"),
		attend("d"), lookAtLock(),
		post(lockPath("downgrade"), `{"session":"{a}","name":"{story}","token":{T-a}}`, "409 not_holder"),
	},
	"permits": {
		open("a"), open("b"), open("c"),
		takeAs("a", `"mode":"permits","limit":3,"permits":2`, "", "200"),
		takeAs("b", `"mode":"permits","limit":3,"permits":2`, "", "409 lock_held"),
		takeAs("b", `"mode":"permits","limit":3`, "", "200"),
		takeAs("c", `"mode":"permits","limit":4`, "", "409 limit_mismatch"),
		takeAs("c", `"mode":"permits","limit":1,"permits":2`, "", "422 invalid"),
		takeAs("c", `"mode":"permits"`, "", "422 invalid"),
		takeAs("c", `"permits":1`, "", "422 invalid"),
		queue("c", `{"name":"{story}","mode":"permits","limit":3,"permits":3}`, ""),
		lookAtLock(), giveBack("a", "204"), giveBack("b", "204"), attend("c"), lookAtLock(),
	},
	"several": {
		open("a"), open("b"), open("c"),
		post(lockPath("acquire"), `{"session":"{a}","locks":[{"name":"{story}-x"},{"name":"{story}-y"}]}`, "200").keeping("X", "grants.0.token"),
		queue("b", `{"name":"{story}-z"},{"name":"{story}-x","mode":"shared"}`, ""),
		post(lockPath("acquire"), `{"session":"{c}","locks":[{"name":"{story}-z"}]}`, "409 lock_held"),
		post(lockPath("acquire"), `{"session":"{c}","locks":[{"name":"{story}-z"},{"name":"{story}-z"}]}`, "422 invalid"),
		look("/v1/locks?prefix={story}-"),
		post(lockPath("release"), `{"session":"{a}","locks":[{"name":"{story}-x","token":{X}},{"name":"{story}-y","token":{X}}]}`, "409 not_holder"),
		look("/v1/locks?prefix={story}-"),
		closeOf("a"), attend("b"), look("/v1/locks?prefix={story}-"),
	},
	"reentrant": {
		open("a"),
		take("a", `,"owner":"one","reentrant":true,"value":"v"`, "200"),
		take("a", `,"owner":"one","reentrant":true`, "200"),
		take("a", `,"owner":"one"`, "409 lock_held"),
		take("a", `,"owner":"two","reentrant":true`, "409 lock_held"),
		takeAs("a", `"mode":"shared"`, `,"owner":"one","reentrant":true`, "409 lock_held"),
		lookAtLock(),
		giveBack("a", "204"), lookAtLock(), giveBack("a", "204"), giveBack("a", "409 not_holder"),
	},
}
