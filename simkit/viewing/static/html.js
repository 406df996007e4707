// Preact with htm: templates instead of a build step. Values in templates are always text nodes or attributes.
import { Component, Fragment, createContext, h, render } from './vendor/preact.js';
import {
  useCallback,
  useContext,
  useEffect,
  useErrorBoundary,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
} from './vendor/hooks.js';
import htm from './vendor/htm.js';

/** Template tag for elements: html`<p class=${name}>${text}</p>`. */
const html = htm.bind(h);

export {
  Component,
  Fragment,
  createContext,
  html,
  render,
  useCallback,
  useContext,
  useEffect,
  useErrorBoundary,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
};
