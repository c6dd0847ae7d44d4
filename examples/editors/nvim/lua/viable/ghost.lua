-- Ghost text for Neovim 0.10 and 0.11: asks for inline completions, draws one, takes it whole, by word or by line.
-- All columns and lengths are bytes, as init.lua agrees on UTF-8 with the server.

local M = {}

local space = vim.api.nvim_create_namespace("viable")
local new = vim.fn.has("nvim-0.11") == 1

-- The suggestions in view: client, buffer and its tick, row and col (from 0), the line's width, items and the index
-- of the one that is drawn. nil if there are none.
local shown = nil
-- The request under way: id and client.
local pending = nil
-- How much to take, while the server is being asked for it: client, the buffer's tick, and what keys were pressed since.
local asked = nil

local function request(client, method, params, handler, buffer)
  if new then
    return client:request(method, params, handler, buffer)
  end
  return client.request(method, params, handler, buffer)
end

local function cancel()
  if pending then
    if new then
      pending.client:cancel_request(pending.id)
    else
      pending.client.cancel_request(pending.id)
    end
    pending = nil
  end
end

local function cursor()
  local place = vim.api.nvim_win_get_cursor(0)
  return place[1] - 1, place[2]
end

local function clear()
  if shown and vim.api.nvim_buf_is_valid(shown.buffer) then
    vim.api.nvim_buf_clear_namespace(shown.buffer, space, 0, -1)
  end
  shown = nil
end

local function text()
  return shown.items[shown.index].text
end

local function draw()
  shown.tick = vim.api.nvim_buf_get_changedtick(shown.buffer)
  vim.api.nvim_buf_clear_namespace(shown.buffer, space, 0, -1)
  local lines = vim.split(text(), "\n", { plain = true })
  local rest = {}
  for i = 2, #lines do
    rest[#rest + 1] = { { lines[i] == "" and " " or lines[i], "ViableGhost" } }
  end
  local first = { { lines[1], "ViableGhost" } }
  if #shown.items > 1 then
    first[2] = { (" (%d/%d)"):format(shown.index, #shown.items), "NonText" }
  end
  vim.api.nvim_buf_set_extmark(shown.buffer, space, shown.row, shown.col, {
    virt_text = first,
    virt_text_pos = "inline",
    virt_lines = #rest > 0 and rest or nil,
  })
end

-- What an item inserts at the cursor: its range may begin before it, with text that stands there already.
local function at_cursor(item, row, col)
  local new_text = type(item.insertText) == "table" and item.insertText.value or item.insertText
  new_text = new_text:gsub("\r\n", "\n")
  if item.range then
    local before = vim.api.nvim_get_current_line():sub(item.range.start.character + 1, col)
    if item.range["end"].line ~= row or item.range["end"].character ~= col or not vim.startswith(new_text, before) then
      return nil
    end
    new_text = new_text:sub(#before + 1)
  end
  return new_text ~= "" and { text = new_text, command = item.command } or nil
end

-- The user typed on: keep what goes on in the same way. Whether anything was kept.
local function follow()
  local row, col = cursor()
  if not shown or shown.buffer ~= vim.api.nvim_get_current_buf() or shown.row ~= row or col <= shown.col then
    return false
  end
  local line = vim.api.nvim_get_current_line()
  local typed = line:sub(shown.col + 1, col)
  if #line - #typed ~= shown.width then
    return false
  end
  local kept = {}
  for _, item in ipairs(shown.items) do
    if #item.text > #typed and vim.startswith(item.text, typed) then
      kept[#kept + 1] = { text = item.text:sub(#typed + 1), command = item.command }
    end
  end
  if #kept == 0 then
    return false
  end
  shown.items, shown.index, shown.col, shown.width = kept, 1, col, #line
  draw()
  return true
end

local function show(client, buffer, tick, row, col, result)
  local row_now, col_now = cursor()
  if
    vim.api.nvim_get_current_buf() ~= buffer
    or vim.api.nvim_buf_get_changedtick(buffer) ~= tick
    or row_now ~= row
    or col_now ~= col
    or vim.fn.mode():sub(1, 1) ~= "i"
  then
    return
  end
  local items = {}
  for _, item in ipairs(result and (result.items or result) or {}) do
    items[#items + 1] = at_cursor(item, row, col)
  end
  clear()
  if #items > 0 then
    local width = #vim.api.nvim_get_current_line()
    shown = { client = client, buffer = buffer, row = row, col = col, width = width, items = items, index = 1 }
    draw()
    client.rpc.notify("textDocument/didShowCompletion", { item = { insertText = text() } })
  end
end

-- Ask for suggestions at the cursor, by the user's own wish or not. Always true: the key is used up.
function M.request(invoked)
  local buffer = vim.api.nvim_get_current_buf()
  local client = require("viable").client(buffer)
  if not client then
    return true
  end
  cancel()
  local row, col = cursor()
  local tick = vim.api.nvim_buf_get_changedtick(buffer)
  local params = vim.lsp.util.make_position_params(0, client.offset_encoding)
  params.context = { triggerKind = invoked and 1 or 2 }
  local mine = { client = client }
  local sent, id = request(client, "textDocument/inlineCompletion", params, function(err, result)
    if pending ~= mine then
      return -- a newer request has taken its place, though this one was answered before it could be cancelled
    end
    pending = nil
    if not err then
      show(client, buffer, tick, row, col, result)
    end
  end, buffer)
  if sent then
    mine.id = id
    pending = mine
  end
  return true
end

-- Put the first `count` bytes of the suggestion into the file, and keep the rest in view.
local function take(count)
  if not shown then
    return false
  end
  local current = shown
  local item = current.items[current.index]
  local part, rest = item.text:sub(1, count), item.text:sub(count + 1)
  local lines = vim.split(part, "\n", { plain = true })
  clear()
  vim.go.undolevels = vim.go.undolevels -- what was typed before is another step of undo (:help undo-break)
  vim.api.nvim_buf_set_text(current.buffer, current.row, current.col, current.row, current.col, lines)
  local row = current.row + #lines - 1
  local col = #lines[#lines] + (#lines == 1 and current.col or 0)
  vim.api.nvim_win_set_cursor(0, { row + 1, col })
  if rest == "" then
    if item.command then
      request(current.client, "workspace/executeCommand", item.command, function() end, current.buffer)
    end
  else
    current.client.rpc.notify("textDocument/didPartiallyAcceptCompletion", {
      item = { insertText = item.text, command = item.command },
      acceptedLength = #part,
    })
    local width = #vim.api.nvim_get_current_line()
    local left = { { text = rest, command = item.command } }
    shown = vim.tbl_extend("force", current, { row = row, col = col, width = width, items = left, index = 1 })
    draw()
  end
  return true
end

-- Ask the server how much to take so that the file parses after it; take that much. `after` are the keys to follow.
local function take_part(kind, after)
  if not shown then
    return false
  end
  local current = shown
  local tick = vim.api.nvim_buf_get_changedtick(current.buffer)
  if asked and asked.tick == tick then
    table.insert(asked.after, kind) -- it takes from what the one before it leaves
    return true
  end
  local row, col = cursor()
  local params = vim.lsp.util.make_position_params(0, current.client.offset_encoding)
  params.text, params.kind = text(), kind
  local mine = { client = current.client, tick = tick, after = after or {} }
  local sent = request(current.client, "viable/nextStop", params, function(err, result)
    if asked ~= mine then
      return -- the file is another one
    end
    asked = nil
    local row_now, col_now = cursor()
    -- The same text may have been suggested once more meanwhile: the key still counts.
    if shown and text() == params.text and row_now == row and col_now == col then
      take(not err and result and result.length or #text())
      if #mine.after > 0 then
        take_part(table.remove(mine.after, 1), mine.after)
      end
    end
  end, current.buffer)
  asked = sent and mine or nil
  return true
end

function M.accept()
  return take(shown and #text() or 0)
end

function M.accept_word()
  return take_part("word")
end

function M.accept_line()
  return take_part("line")
end

function M.dismiss()
  cancel()
  local there = shown ~= nil
  clear()
  return there
end

function M.turn(step)
  if not shown then
    return false
  end
  shown.index = (shown.index - 1 + step) % #shown.items + 1
  draw()
  return true
end

-- A server has ended: what it said and what it was asked go with it.
function M.forget(id)
  if shown and shown.client.id == id then
    clear()
  end
  if pending and pending.client.id == id then
    pending = nil
  end
  if asked and asked.client.id == id then
    asked = nil
  end
end

-- The text in view, or nil.
function M.text()
  return shown and text()
end

function M.attach(_, buffer, auto)
  local group = vim.api.nvim_create_augroup("viable.ghost." .. buffer, {})
  local function on(events, callback)
    vim.api.nvim_create_autocmd(events, { group = group, buffer = buffer, callback = callback })
  end
  on({ "TextChangedI", "TextChangedP", "CursorMovedI", "InsertEnter" }, function(event)
    local row, col = cursor()
    local tick = vim.api.nvim_buf_get_changedtick(buffer)
    if shown and shown.row == row and shown.col == col and shown.tick == tick then
      return -- drawn for just this place and text
    end
    if follow() then
      return
    end
    clear()
    if auto and event.event ~= "CursorMovedI" then
      M.request(false)
    end
  end)
  on({ "InsertLeave", "BufLeave" }, M.dismiss)
end

return M
