// The ordinary workflow: each step builds on the one before.
import assert from "node:assert/strict";
import { createReadStream, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";

import { Asana, action, batch, clientFor, refusal } from "./client.mjs";

const client = clientFor();
const users = new Asana.UsersApi(client);
const workspaces = new Asana.WorkspacesApi(client);
const projects = new Asana.ProjectsApi(client);
const tasks = new Asana.TasksApi(client);
const stories = new Asana.StoriesApi(client);
const attachments = new Asana.AttachmentsApi(client);

let workspace;
let project;
let task;

async function toTheEnd(page) {
  const read = [];
  for (; page.data; page = await page.nextPage()) read.push(...page.data);
  return read;
}

test("me and my workspaces", async () => {
  const me = await users.getUser("me", {});
  assert.equal(me.data.name, "Ada Lovelace");
  const mine = await workspaces.getWorkspaces({});
  assert.deepEqual(me.data.workspaces, mine.data);
  workspace = mine.data[0].gid;
  assert.equal(typeof workspace, "string");
});

test("create, list, get, update a project", async () => {
  const created = await projects.createProject({ data: { name: "Harvest", workspace } }, {});
  project = created.data.gid;
  assert.deepEqual((await projects.getProject(project, {})).data, created.data);
  const some = await projects.getProject(project, { opt_fields: "name,workspace.name" });
  assert.deepEqual(Object.keys(some.data).sort(), ["gid", "name", "workspace"]);
  const renamed = await projects.updateProject({ data: { name: "Late harvest" } }, project, {});
  assert.equal(renamed.data.name, "Late harvest");
  const all = await toTheEnd(await projects.getProjects({ workspace, limit: 1 }));
  assert.ok(all.some(({ gid, name }) => gid === project && name === "Late harvest"));
});

test("create, get, update a task", async () => {
  const created = await tasks.createTask({ data: { name: "Pick äpples", projects: [project], assignee: "me" } }, {});
  task = created.data.gid;
  assert.deepEqual((await tasks.getTask(task, {})).data, created.data);
  assert.deepEqual((await tasks.getTask(task, { opt_fields: "name,projects.name" })).data, {
    gid: task,
    name: "Pick äpples",
    projects: [{ gid: project, name: "Late harvest" }],
  });
  const changed = await tasks.updateTask({ data: { completed: true } }, task, {});
  assert.equal(changed.data.completed, true);
});

test("list tasks page by page to the end", async () => {
  for (const name of ["one", "two", "three", "four"]) await tasks.createTask({ data: { name, projects: [project] } }, {});
  const read = await toTheEnd(await tasks.getTasks({ project, limit: 2 }));
  assert.deepEqual(read.map(({ name }) => name), ["Pick äpples", "one", "two", "three", "four"]);
});

test("subtasks", async () => {
  const created = await tasks.createSubtaskForTask({ data: { name: "Find a ladder" } }, task, {});
  assert.equal(created.data.parent.gid, task);
  assert.deepEqual((await tasks.getSubtasksForTask(task, {})).data.map(({ gid }) => gid), [created.data.gid]);
});

test("a story", async () => {
  const created = await stories.createStoryForTask({ data: { text: "They are ripe" } }, task, {});
  assert.deepEqual((await stories.getStory(created.data.gid, {})).data, created.data);
  assert.equal((await stories.getStoriesForTask(task, {})).data.at(-1).gid, created.data.gid);
});

test("an attachment", async () => {
  const directory = mkdtempSync(join(tmpdir(), "batchkit-"));
  try {
    const file = join(directory, "apples.bin");
    writeFileSync(file, Buffer.alloc(100_000, 7));
    const created = await attachments.createAttachmentForObject({ parent: task, file: createReadStream(file) });
    const { gid } = created.data;
    assert.equal(created.data.name, "apples.bin");
    assert.deepEqual((await attachments.getAttachmentsForObject(task, {})).data.map((one) => one.gid), [gid]);
    assert.equal((await attachments.getAttachment(gid, {})).data.size, 100_000);
    assert.deepEqual((await attachments.deleteAttachment(gid)).data, {});
    assert.equal((await refusal(attachments.getAttachment(gid, {}))).status, 404);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

const mixed = () => [
  action("get", "/users/me", { options: { fields: ["name"] } }),
  action("get", "/tasks", { data: { project }, options: { limit: 2, fields: ["name"] } }),
  action("post", `/tasks/${task}/subtasks`, { data: { name: "Below" }, options: { fields: ["name"] } }),
  action("put", `/tasks/${task}`, { data: { notes: "red" }, options: { fields: ["notes"] } }),
  action("get", "/not_found"),
  action("post", "/attachments", { data: { parent: task } }),
];

function looksRight(results) {
  assert.deepEqual(results.map((result) => result.status_code), [200, 200, 201, 200, 404, 400]);
  const [me, listed, subtask, updated, lost] = results.map(({ body }) => body);
  assert.equal(me.data.name, "Ada Lovelace");
  assert.deepEqual(listed.data.map(({ name }) => name), ["Pick äpples", "one"]);
  assert.equal(results[2].headers.location, `/api/1.0/tasks/${subtask.data.gid}`);
  assert.deepEqual(updated.data, { gid: task, notes: "red" });
  assert.equal(lost.errors[0].message, "No matching route for request");
}

test("a mixed batch as a collection", async () => {
  const collection = await batch(client, ...mixed());
  looksRight(collection.data);
  assert.deepEqual(await collection.nextPage(), { data: null });
});

test("a mixed batch without collections", async () => {
  const plain = clientFor();
  plain.RETURN_COLLECTION = false;
  const answer = await batch(plain, ...mixed());
  assert.deepEqual(Object.keys(answer), ["data"]);
  looksRight(answer.data);
});

test("a mixed batch with HTTP information", async () => {
  const plain = clientFor();
  plain.RETURN_COLLECTION = false;
  const body = { data: { actions: mixed() } };
  const { data, response } = await new Asana.BatchAPIApi(plain).createBatchRequestWithHttpInfo(body, {
    opt_fields: "body,headers,status_code",
    opt_pretty: true,
  });
  assert.equal(response.status, 200);
  assert.equal(response.headers["content-type"], "application/json; charset=utf-8");
  // The client asks for it, and this answer is long enough.
  assert.equal(response.headers["content-encoding"], "gzip");
  looksRight(data.data);
});

test("no action and eleven", async () => {
  assert.deepEqual(await refusal(batch(client)), {
    status: 400,
    message: "Batch requests must contain at least one action",
    retryAfter: undefined,
  });
  const eleven = Array(11).fill(action("delete", `/tasks/${task}`));
  assert.equal((await refusal(batch(client, ...eleven))).message, "Batch requests must contain no more than 10 actions");
  assert.equal((await tasks.getTask(task, {})).data.gid, task);
});

test("a wrong token", async () => {
  const refused = await refusal(batch(clientFor("another-token"), action("delete", `/tasks/${task}`)));
  assert.deepEqual([refused.status, refused.message], [401, "Not Authorized"]);
  assert.equal((await tasks.getTask(task, {})).data.gid, task);
});

test("delete a task and a project", async () => {
  assert.deepEqual((await tasks.deleteTask(task)).data, {});
  assert.equal((await refusal(tasks.getTask(task, {}))).message, `task: Not a recognized ID: ${task}`);
  assert.deepEqual((await projects.deleteProject(project)).data, {});
  assert.equal((await refusal(projects.getProject(project, {}))).status, 404);
});
