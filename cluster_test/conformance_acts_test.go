package cluster_test

func handOff(from, to, want string) exchange {
	return post(lockPath("handoff"), `{"session":"{`+from+`}","name":"{story}"`+to+`}`, want)
}

// actStories are about what is done to the locks of others, and what is made of locks.
var actStories = map[string][]exchange{
	"handoff": {
		open("a"), open("b"), open("c"),
		handOff("a", "", "409 not_holder"),
		take("a", "", "200"),
		handOff("a", "", "409 no_successor"),
		queue("b", itself, ""), queue("c", itself, ""),
		handOff("a", `,"to":"{c}"`, "200").keeping("T-c", "token"),
		attend("c"), lookAtLock(), giveBack("a", "409 not_holder"),
		handOff("c", `,"to":"nobody"`, "409 no_successor"),
		handOff("c", "", "200"), attend("b"), lookAtLock(),
	},
	"revoke": {
		open("a"), open("b"),
		post(lockPath("revoke"), `{"name":"{story}","within_ms":100,"reason":"test"}`, "409 not_holder"),
		take("a", "", "200"), queue("b", itself, ""),
		post(lockPath("revoke"), `{"name":"{story}","within_ms":300000,"reason":"test","by":"me"}`, "200"),
		post("/v1/sessions/keepalive", `{"ids":["{a}"]}`, "200"), lookAtLock(),
		post(lockPath("revoke"), `{"name":"{story}","within_ms":1,"reason":"test"}`, "200"),
		attend("b"), giveBack("a", "409 not_holder"), lookAtLock(),
		post(lockPath("revoke"), `{"name":"{story}","within_ms":0,"reason":"test"}`, "422 invalid"),
	},
	"force": {
		open("a"), open("b"),
		takeAs("a", `"mode":"shared"`, "", "200"), takeAs("b", `"mode":"shared"`, "", "200"),
		post(lockPath("force-release"), `{"name":"{story}"}`, "422 invalid"),
		post(lockPath("force-release"), `{"name":"{story}","token":{T-a},"reason":"test"}`, "200"),
		lookAtLock(),
		post(lockPath("force-release"), `{"name":"{story}","reason":"test","by":"me"}`, "200"),
		giveBack("b", "409 not_holder"), lookAtLock(),
	},
	"deadlock": {
		open("a"), open("b"),
		post(lockPath("acquire"), `{"session":"{a}","locks":[{"name":"{story}-x"}]}`, "200"),
		post(lockPath("acquire"), `{"session":"{b}","locks":[{"name":"{story}-y"}]}`, "200"),
		queue("a", `{"name":"{story}-y"}`, ""), queue("b", `{"name":"{story}-x"}`, `,"owner":"thread"`),
		look("/v1/locks/deadlocks"),
		post(lockPath("cancel"), `{"ticket":{W-b},"reason":"to break it"}`, "204"),
		queue("b", `{"name":"{story}-x"}`, ""),
		look("/v1/locks/deadlocks"),
		post(lockPath("cancel"), `{"ticket":{W-b},"reason":"to break it"}`, "204"),
		look("/v1/locks/deadlocks"), glance("a", "202"),
	},
	"elections": {
		open("a"), open("b"),
		look("/v1/elections?name={story}"),
		post("/v1/elections/campaign", `{"session":"{a}","name":"{story}","value":"here"}`, "200").keeping("T-a", "grants.0.token"),
		look("/v1/elections?name={story}"),
		post("/v1/elections/proclaim", `{"session":"{a}","name":"{story}","token":{T-a},"value":"there"}`, "204"),
		post("/v1/elections/proclaim", `{"session":"{b}","name":"{story}","token":{T-a},"value":"there"}`, "409 not_holder"),
		post("/v1/batch", `{"ops":[{"op":"elections.campaign","body":{"session":"{b}","name":"{story}","value":"b","wait_ms":60000}}]}`, "200").
			keeping("W-b", "results.0.body.ticket"),
		look("/v1/elections?name={story}"),
		post("/v1/elections/resign", `{"session":"{a}","name":"{story}","token":{T-a},"to":"nobody"}`, "409 no_successor"),
		post("/v1/elections/resign", `{"session":"{a}","name":"{story}","token":{T-a},"to":"{b}"}`, "204"),
		post("/v1/elections/campaign", `{"ticket":{W-b},"wait_ms":20000}`, "200").keeping("T-b", "grants.0.token"),
		look("/v1/elections?name={story}"),
		post("/v1/elections/resign", `{"session":"{b}","name":"{story}","token":{T-b}}`, "204"),
		look("/v1/elections?name={story}"),
	},
	"batch": {
		open("a"),
		post("/v1/batch", `{"ops":[{"op":"locks.acquire","body":{"session":"{a}","locks":[{"name":"{story}"}]}},
			{"op":"locks.acquire","body":{"session":"nobody","locks":[{"name":"{story}-2"}]}},{"op":"sessions.open","body":{"ttl_ms":1}},
			{"op":"sessions.open","key":"{a}/1","body":{"ttl_ms":1000}},{"op":"sessions.close","id":"{a}"}]}`, "200"),
		post("/v1/batch", `{"ops":[{"op":"nothing"}]}`, "200"),
		post("/v1/batch", `{"ops":[]}`, "422 invalid"),
		{ask: "POST /v1/batch", body: `{"ops":[{"op":"sessions.close","id":"{a}"}]}`, header: "Idempotency-Key: {a}/2", want: "422 invalid"},
	},
}

func enlist(as string) exchange {
	x := post("/v1/instances", `{"name":"`+as+`","service":"{story}","lease_ttl_ms":600000}`, "200")
	x.keep = map[string]string{as: "id", "I-" + as: "incarnation", "S-" + as: "session"}
	return x
}

func says(who, what, more, want string) exchange {
	return post("/v1/instances/{"+who+"}/"+what, `{"incarnation":{I-`+who+`}`+more+`}`, want)
}

// serviceStories are about instances and what they tell the outbox.
var serviceStories = map[string][]exchange{
	"instances": {
		enlist("one"), enlist("two"),
		says("one", "phase", `,"phase":"reject","seq":1`, "409 instance_state"),
		says("one", "drained", "", "409 instance_state"),
		says("one", "ready", "", "200"), says("two", "ready", "", "200"), says("two", "ready", "", "200"),
		says("one", "keepalive", "", "200"),
		says("one", "drain", `,"intent":"restart"`, "200"), says("two", "drain", `,"intent":"remove","reason":"test"`, "200"),
		says("one", "drain", `,"intent":"neither"`, "422 invalid"),
		says("one", "keepalive", "", "200"), says("two", "keepalive", "", "200"),
		look("/v1/instances/{two}"), look("/v1/services/{story}"),
		says("one", "phase", `,"phase":"flush","seq":1,"counters":{"left":3}`, "200"),
		says("one", "drained", "", "200"), says("one", "left", "", "200"),
		says("one", "left", "", "200"), says("one", "keepalive", "", "410 fenced"),
		look("/v1/instances/{two}"), look("/v1/instances?service={story}&state=left"),
		enlist("two"), look("/v1/instances?service={story}&state=lost"),
		{ask: "GET /v1/instances/nobody", want: "404 instance_not_found"},
	},
	"services": {
		{ask: "PUT /v1/services/{story}", body: `{"max_unavailable":2}`, want: "200", keep: map[string]string{"v": "version"}},
		{ask: "PUT /v1/services/{story}", body: `{"max_unavailable":3}`, header: `If-Match: "{v}"`, want: "200"},
		{ask: "PUT /v1/services/{story}", body: `{"max_unavailable":4}`, header: `If-Match: "{v}"`, want: "412 version_mismatch"},
		{ask: "PUT /v1/services/{story}", body: `{"max_unavailable":0}`, want: "422 invalid"},
		look("/v1/services/{story}"),
		{ask: "DELETE /v1/services/{story}", want: "204"},
		{ask: "DELETE /v1/services/{story}", want: "404 service_not_found"},
	},
	"outbox": {
		post("/v1/outbox/events", `{"events":[{"mapping":"{story}","pk":[1]}]}`, "404 mapping_not_found"),
		post("/v1/outbox/events", `{"events":[]}`, "422 invalid"),
		post("/v1/outbox/events", `{"events":[{"mapping":"No Name","pk":[1]}]}`, "422 invalid"),
		post("/v1/outbox/wait", `{"mapping":"{story}","pk":[1],"token":1}`, "404 mapping_not_found"),
		{ask: "GET /v1/mappings/{story}", want: "404 mapping_not_found"},
		{ask: "DELETE /v1/mappings/{story}", want: "404 mapping_not_found"},
	},
}
